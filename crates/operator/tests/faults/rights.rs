//! The operator's role in the chart grants exactly the requests that the operator makes.

use std::collections::BTreeSet;

use embedded_kubernetes::faults::{Act, Record};
use serde_json::{Value, json};
use sluice_signals::JobKey;
use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// API group, resource with subresource, and verb.
type Right = (String, String, String);

/// Returns the rights that the chart grants in watched namespaces.
fn granted() -> BTreeSet<Right> {
    let template = include_str!("../../../../charts/sluice/templates/_names.tpl");
    let (_, rules) = template.split_once("{{- define \"sluice.rules\" -}}\n").unwrap();
    let (rules, _) = rules.split_once("{{- with .Values.extraRules }}").unwrap();
    let rules: Value = serde_saphyr::from_str(rules).unwrap();
    let words = |rule: &Value, key: &str| -> Vec<String> {
        rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                for verb in words(rule, "verbs") {
                    all.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    all
}

/// Returns the rights that a request needs.
fn needed(request: &Record) -> Vec<Right> {
    let verbs: &[&str] = match request.act {
        Act::Get => &["get"],
        Act::List => &["list"],
        Act::Watch => &["watch"],
        Act::Create => &["create"],
        Act::Update => &["update"],
        // An apply that creates the object.
        Act::Patch if request.code == Some(201) => &["patch", "create"],
        Act::Patch => &["patch"],
        Act::Delete => &["delete"],
        Act::Any | Act::Write => &[],
    };
    verbs.iter().map(|verb| (request.path.group.clone(), request.resource(), (*verb).to_owned())).collect()
}

/// Catalogue: S2.
#[tokio::test(start_paused = true)]
async fn role_of_the_chart_grants_exactly_the_requests_made() {
    let mut world = World::new(11).await;
    let faults = world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
    let mut jobs: Vec<Value> = vec![job("orders"), job("ledger"), job("audit")];
    jobs[1]["spec"]["workload"]["kind"] = json!("StatefulSet");
    jobs[2]["spec"].as_object_mut().unwrap().remove("workload");
    jobs[2]["spec"]["targetRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "bystander"});
    for number in [6, 2, 5, 1, 4] {
        for job in &mut jobs {
            let key =
                JobKey { namespace: NAMESPACE.to_owned(), name: job["metadata"]["name"].as_str().unwrap().to_owned() };
            world.plant.set_rate(&key, 100);
            job["spec"]["replicas"] = json!(number);
            world.apply(job).await;
        }
        wait(60).await;
    }
    let requested: BTreeSet<Right> = faults.requests().iter().flat_map(needed).collect();
    let granted = granted();
    let missing: Vec<&Right> = requested.difference(&granted).collect();
    assert!(missing.is_empty(), "requested but not granted: {missing:?}");
    // Needed for the OwnerReferencesPermissionEnforcement admission, on clusters that have it.
    let elsewhere = ("sluice.dev".to_owned(), "streamjobs/finalizers".to_owned(), "update".to_owned());
    let unused: Vec<&Right> = granted.difference(&requested).filter(|right| **right != elsewhere).collect();
    assert!(unused.is_empty(), "granted but never requested: {unused:?}");
    world.end();
}
