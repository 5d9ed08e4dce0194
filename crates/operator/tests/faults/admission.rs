//! The admission policy of the chart authorizes access to the same resource that the operator writes to.
//! `tests/cluster/deputy.rs` checks that a real API server enforces it.

use std::sync::Arc;

use cel::{Context, Env, Value as Cel, extensions};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use sluice_api::StreamJob;
use sluice_operator::validate::{Target, validate};

use crate::security::documents;
use sluice_testkit::world::job;

fn job_for(api_version: &str, kind: &str) -> Value {
    let mut job = job("orders");
    job["metadata"]["uid"] = json!("u");
    job["metadata"]["namespace"] = json!("n");
    job["spec"].as_object_mut().unwrap().remove("workload");
    job["spec"]["targetRef"] = json!({"apiVersion": api_version, "kind": kind, "name": "web"});
    job
}

/// Evaluates the policy, and returns the group and resource whose access it authorizes.
fn authorized(policy: &Value, object: &Value) -> (String, String) {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings).unwrap();
    let env = Arc::new(env);
    let mut known = Map::new();
    for variable in policy["spec"]["variables"].as_array().unwrap() {
        let mut context = Context::with_env(Arc::clone(&env));
        context.add_variable("object", object).unwrap();
        context.add_variable("variables", &known).unwrap();
        let program = env.compile(variable["expression"].as_str().unwrap()).unwrap();
        let value = match program.execute(&context).unwrap() {
            Cel::Bool(value) => json!(value),
            Cel::String(value) => json!(value.to_string()),
            other => panic!("{other:?}"),
        };
        known.insert(variable["name"].as_str().unwrap().to_owned(), value);
    }
    let variable = |name: &str| known[name].as_str().unwrap().to_owned();
    (variable("group"), variable("resource"))
}

/// Returns the group and resource to which the operator writes.
fn written(object: &Value) -> (String, String) {
    let object: StreamJob = serde_json::from_value(object.clone()).unwrap();
    match validate(&object).unwrap().target {
        Target::Existing { resource, .. } => (resource.group, resource.plural),
        Target::Owned(_) => panic!("not a target"),
    }
}

/// Catalogue: B4.
#[test]
fn admission_policy_authorizes_the_resource_that_is_written() {
    let template = include_str!("../../../../charts/sluice/templates/admission.yaml");
    let policy = documents(template).remove(0);
    let same = |api_version: &str, kind: &str| {
        let object = job_for(api_version, kind);
        assert_eq!(authorized(&policy, &object), written(&object), "{api_version} {kind}");
    };
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "ReplicaSet"),
        ("v1", "ReplicationController"),
        ("argoproj.io/v1alpha1", "Rollout"),
        ("example.com/v1", "Proxy"),
        ("example.com/v1", "Gateway"),
        ("example.com/v1", "Box"),
        ("example.com/v1", "Mesh"),
        ("example.com/v1", "Endpoints"),
        ("example.com/v1", "PodMetrics"),
    ] {
        same(api_version, kind);
    }
    let object = job_for("apps/v1", "Deployment");
    assert_eq!(authorized(&policy, &object), ("apps".to_owned(), "deployments".to_owned()));
    let odd = ("([a-z0-9.-]{1,9}/)?v[a-z0-9]{1,3}", "[A-Z][A-Za-z0-9]{0,6}(s|x|z|ch|sh|[a-z]y|Y1|[A-Z]|[a-z])");
    TestRunner::new(Config::with_cases(300))
        .run(&odd, |(api_version, kind)| {
            same(&api_version, &kind);
            Ok(())
        })
        .unwrap();
    let without = job("orders");
    assert_eq!(authorized(&policy, &without).0, "", "a job with a workload of its own has no target");
}
