//! The admission policy of the chart in a real API server: a user who may not scale a workload may not make Sluice
//! scale it.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};
use sluice_api::StreamJob;

use super::bed::Bed;
use super::helm::helm;

/// Returns a client that impersonates a user.
async fn client_as(user: &str) -> Client {
    let mut config = Config::infer().await.unwrap();
    config.auth_info.impersonate = Some(user.to_owned());
    Client::try_from(config).unwrap()
}

/// Grants a user the verbs on the resource in the namespace, for these names or, if there are none, for all.
async fn grant(bed: &Bed, user: &str, verbs: &[&str], group: &str, resource: &str, names: &[&str]) {
    let name = format!("{user}-{}-{}", resource.replace('/', "-"), names.join("-"));
    let name = name.trim_end_matches('-');
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": [resource], "verbs": verbs, "resourceNames": names}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    });
    let apply = PatchParams::apply("test").force();
    let roles = Api::<Role>::namespaced(bed.client.clone(), &bed.namespace);
    roles.patch(name, &apply, &Patch::Apply(&role)).await.unwrap();
    let bindings = Api::<RoleBinding>::namespaced(bed.client.clone(), &bed.namespace);
    bindings.patch(name, &apply, &Patch::Apply(&binding)).await.unwrap();
}

/// Retries until the API server's caches are up to date.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut last = String::new();
    for _ in 0..300 {
        match ask().await {
            Ok(found) => return found,
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 s: {what}: {last}");
}

fn job_for(bed: &Bed, name: &str, api_version: &str, kind: &str, target: &str) -> StreamJob {
    let mut job = bed.job(json!({"metadata": {"name": name}}));
    job["spec"].as_object_mut().unwrap().remove("workload");
    job["spec"]["metrics"] = Value::Null;
    job["spec"]["targetRef"] = json!({"apiVersion": api_version, "kind": kind, "name": target});
    serde_json::from_value(job).unwrap()
}

fn refused<T: std::fmt::Debug>(answer: kube::Result<T>) -> String {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => status.message.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

/// Catalogue: B4.
#[tokio::test]
async fn a_user_who_may_not_scale_a_workload_cannot_use_sluice_to() {
    let bed = Bed::new("deputy", 0).await;
    let charts = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sluice");
    let plural = ["--set", "targetPlurals.example\\.com/Person=people"];
    let template = ["template", &bed.namespace, charts, "--show-only", "templates/admission.yaml"];
    let rendered = helm(&[&template[..], &plural[..]].concat());
    let mut made = Vec::new();
    let apply = PatchParams::apply("test").force();
    for document in serde_yaml::Deserializer::from_str(&rendered) {
        let object: Value = serde::Deserialize::deserialize(document).unwrap();
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", object["kind"].as_str().unwrap());
        let api = Api::<DynamicObject>::all_with(bed.client.clone(), &ApiResource::from_gvk(&kind));
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &apply, &Patch::Apply(&object)).await.unwrap();
        made.push((api, name));
    }
    assert_eq!(made.len(), 2);
    let of_mallory = Api::<StreamJob>::namespaced(client_as("mallory").await, &bed.namespace);
    grant(&bed, "mallory", &["get", "create", "update", "patch", "delete"], "sluice.dev", "streamjobs", &[]).await;
    let create = PostParams::default();
    let try_it = PostParams { dry_run: true, ..PostParams::default() };

    // Without the permission the request is rejected, with a message that names the missing permission.
    let grab = job_for(&bed, "grab", "apps/v1", "Deployment", "web");
    let message = eventually("the policy holds", async || match of_mallory.create(&try_it, &grab).await {
        Err(kube::Error::Api(status)) if status.message.contains("spec.targetRef") => Ok(status.message),
        other => Err(format!("{other:?}")),
    })
    .await;
    for part in
        ["mallory may not scale the Deployment web", "the verb patch on deployments/scale of the API group apps"]
    {
        assert!(message.contains(part), "{message}");
    }
    let gadget = job_for(&bed, "gadget", "example.com/v1", "Gadget", "web");
    let core = job_for(&bed, "core", "v1", "ReplicationController", "web");
    let person = job_for(&bed, "person", "example.com/v1", "Person", "web");
    let mut messages = Vec::new();
    for job in [&gadget, &core, &person] {
        messages.push(refused(of_mallory.create(&try_it, job).await));
    }
    assert!(messages[0].contains("gadgets/scale of the API group example.com"), "{messages:?}");
    assert!(messages[1].contains("replicationcontrollers/scale in that namespace"), "{messages:?}");
    assert!(messages[2].contains("people/scale of the API group example.com"), "{messages:?}");
    // A job with its own workload needs no permission to scale.
    let own: StreamJob = serde_json::from_value(bed.job(json!({"metadata": {"name": "own"}}))).unwrap();
    of_mallory.create(&try_it, &own).await.unwrap();

    // A job created by a user with the permission: changes that scale are rejected, others are accepted.
    bed.jobs().create(&create, &job_for(&bed, "held", "apps/v1", "Deployment", "web")).await.unwrap();
    let (merge, dry) = (PatchParams::default(), PatchParams { dry_run: true, ..PatchParams::default() });
    for spec in [json!({"suspend": true}), json!({"replicas": 0}), json!({"maxReplicas": 10_000})] {
        let message = refused(of_mallory.patch("held", &merge, &Patch::Merge(json!({"spec": spec}))).await);
        assert!(message.contains("mallory may not scale"), "{message}");
    }
    let resume = json!({"metadata": {"annotations": {"sluice.dev/resume": "2026-01-01T00:00:00Z"}}});
    refused(of_mallory.patch("held", &merge, &Patch::Merge(&resume)).await);
    bed.jobs().patch("held", &merge, &Patch::Merge(&resume)).await.unwrap();
    // Changes as made by a controller, the garbage collector and the operator itself are accepted.
    let note = json!({"metadata": {"labels": {"team": "a"}, "finalizers": ["example.com/last"]}});
    of_mallory.patch("held", &merge, &Patch::Merge(note)).await.unwrap();
    of_mallory.patch("held", &merge, &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
    grant(&bed, "writer", &["patch"], "sluice.dev", "streamjobs/status", &[]).await;
    let of_writer = Api::<StreamJob>::namespaced(client_as("writer").await, &bed.namespace);
    eventually("the operator writes the status", async || {
        let status = json!({"status": {"replicas": 1}});
        of_writer.patch_status("held", &merge, &Patch::Merge(status)).await.map_err(|error| error.to_string())
    })
    .await;

    // With the permission, for the workloads that it names.
    grant(&bed, "mallory", &["patch"], "apps", "deployments/scale", &["web"]).await;
    grant(&bed, "mallory", &["update"], "example.com", "gadgets/scale", &[]).await;
    for job in [&grab, &gadget] {
        eventually("a user with the permission may use Sluice", async || {
            of_mallory.create(&try_it, job).await.map_err(|error| error.to_string())
        })
        .await;
    }
    of_mallory.patch("held", &dry, &Patch::Merge(json!({"spec": {"suspend": true}}))).await.unwrap();
    let other = job_for(&bed, "other", "apps/v1", "Deployment", "db");
    assert!(refused(of_mallory.create(&try_it, &other).await).contains("the Deployment db"));
    let elsewhere = json!({"spec": {"targetRef": {"name": "db"}}});
    refused(of_mallory.patch("held", &merge, &Patch::Merge(elsewhere)).await);

    // In the cluster's own namespaces every user is rejected.
    let mut system = job_for(&bed, "system", "apps/v1", "Deployment", "coredns");
    system.metadata.namespace = Some("kube-system".to_owned());
    let jobs = Api::<StreamJob>::namespaced(bed.client.clone(), "kube-system");
    let message = refused(jobs.create(&try_it, &system).await);
    assert!(message.contains("Sluice does nothing in the namespace kube-system"), "{message}");

    for (api, name) in made {
        api.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    bed.end().await;
}
