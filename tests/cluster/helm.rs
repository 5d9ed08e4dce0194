//! The charts: an installation with the operator in its own pod and only the permissions of the chart, an upgrade under
//! load, and an uninstallation that leaves nothing.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::discovery::Discovery;
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sluice_api::{JOB_LABEL, StreamJob};

use super::bed::{Bed, has, status};
use super::leaving::burdens;
use super::seen::{A_MOMENT, PodHistory, ReplicaHistory};

pub(super) fn helm(arguments: &[&str]) -> String {
    let output = Command::new("helm").args(arguments).output().expect("helm is installed: hack/tools helm");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "helm {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Installs the operator's chart with the image of the test bed, or upgrades it, and waits until its pods are ready.
fn install(release: &str, namespace: &str, settings: &[&str]) {
    let image = std::env::var("SLUICE_TEST_IMAGE").unwrap();
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sluice");
    let (repository, tag) = (format!("image.repository={repository}"), format!("image.tag={tag}"));
    let mut arguments = vec!["upgrade", "--install", release, chart, "--namespace", namespace, "--create-namespace"];
    arguments.extend(["--wait", "--timeout", "90s"]);
    for setting in settings.iter().copied().chain([repository.as_str(), tag.as_str()]) {
        arguments.extend(["--set", setting]);
    }
    helm(&arguments);
}

/// Returns every object in the cluster that has the release's label.
async fn leftovers(client: &Client, release: &str) -> Vec<String> {
    let mut left = Vec::new();
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    for group in discovery.groups() {
        for (kind, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(kube::discovery::verbs::LIST) {
                continue;
            }
            let params = ListParams::default().labels(&format!("app.kubernetes.io/instance={release}"));
            let Ok(list) = Api::<DynamicObject>::all_with(client.clone(), &kind).list(&params).await else { continue };
            left.extend(list.items.iter().map(|object| format!("{} {}", kind.kind, object.name_any())));
        }
    }
    left
}

/// Uninstalls the release and checks that nothing is left.
async fn uninstall(bed: &Bed, release: &str, namespace: &str) {
    helm(&["uninstall", release, "--namespace", namespace, "--wait", "--timeout", "60s"]);
    let mut left = leftovers(&bed.client, release).await;
    for _ in 0..30 {
        // Pods need some time to stop.
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        left = leftovers(&bed.client, release).await;
    }
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_chart_installs_a_working_operator_and_uninstalls_fully() {
    let bed = Bed::new("helm", 12).await;
    // An operator that watches one namespace gets no permissions in others.
    install("sluice", &bed.namespace, &[&format!("watchNamespaces={{{}}}", bed.namespace)]);
    let mut job = bed.job(json!({"spec": {"minReplicas": 2}}));
    // The operator is in a pod and needs Kafka's address for pods.
    job["spec"]["sources"][0]["kafka"]["bootstrapServers"] = json!([std::env::var("SLUICE_TEST_KAFKA_POD").unwrap()]);
    bed.apply(&job).await.unwrap();
    let _load = bed.load(600);
    bed.until("the job is ready", 90, |job| {
        status(job).ready_replicas >= 2
            && has(job, "Ready", "True", "Ready")
            && has(job, "MetricsAvailable", "True", "Fresh")
    })
    .await;
    // The leader is deleted and the standby takes over.
    let lease = Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(bed.client.clone(), &bed.namespace);
    let holder = lease.get("sluice").await.unwrap().spec.unwrap().holder_identity.unwrap();
    let leader = holder.rsplit_once('_').unwrap().0.to_owned();
    bed.pods().delete(&leader, &kube::api::DeleteParams::default()).await.unwrap();
    bed.jobs()
        .patch("orders", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(json!({"spec": {"replicas": 3}})))
        .await
        .unwrap();
    bed.until_ready(3, 60).await;
    let next = lease.get("sluice").await.unwrap().spec.unwrap().holder_identity.unwrap();
    assert_ne!(holder, next);
    // The operator may mark pods for removal, and does so once it knows the partition owners; it samples the group
    // every two seconds.
    burdens(&bed, 3).await;
    tokio::time::sleep(A_MOMENT * 5).await;
    let pods = PodHistory::watch(&bed);
    bed.patch("orders", json!({"spec": {"replicas": 2}})).await;
    bed.until("two workers", 60, |job| status(job).replicas == 2).await;
    tokio::time::sleep(A_MOMENT).await;
    let marked = pods.matching(|pod| pod.annotations().contains_key("controller.kubernetes.io/pod-deletion-cost"));
    assert!(matches!(&marked[..], [one] if one.metadata.deletion_timestamp.is_some()), "{marked:?}");

    uninstall(&bed, "sluice", &bed.namespace).await;
    // The lease is deleted with the namespace; the workers are kept.
    assert_eq!(bed.replicas().await, 2);
    bed.end().await;
}

/// Returns the role that each pod of the operator reports, with the pod's name.
async fn roles(pods: &Api<Pod>, scheme: &str) -> Vec<(String, String)> {
    let list = pods.list(&ListParams::default().labels("app.kubernetes.io/instance=sluice-upgrade")).await.unwrap();
    let mut roles = Vec::new();
    for pod in list.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let (namespace, name) = (pod.namespace().unwrap(), pod.name_any());
        let path = format!("/api/v1/namespaces/{namespace}/pods/{scheme}:{name}:8080/proxy/readyz");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let role = pods.clone().into_client().request_text(request).await.unwrap_or_else(|error| error.to_string());
        roles.push((name, role.trim().to_owned()));
    }
    roles
}

/// Catalogue: T10, S26. The chart is installed with its defaults for the whole cluster, then upgraded with another
/// configuration, so that the operator's pods are replaced.
#[tokio::test]
async fn an_operator_upgrade_under_load_changes_no_worker() {
    const HOME: &str = "sluice-upgrade-operator";
    let bed = Bed::new("upgrade", 12).await;
    helm(&["uninstall", "sluice-upgrade", "--namespace", HOME, "--ignore-not-found", "--wait"]);
    install("sluice-upgrade", HOME, &[]);
    let pods = Api::<Pod>::namespaced(bed.client.clone(), HOME);
    let mut job = bed.job(json!({"spec": {"minReplicas": 3}}));
    job["spec"]["sources"][0]["kafka"]["bootstrapServers"] = json!([std::env::var("SLUICE_TEST_KAFKA_POD").unwrap()]);
    bed.apply(&job).await.unwrap();
    let _load = bed.load(600);
    bed.until_ready(3, 90).await;
    bed.until("the partitions are read", 60, |job| has(job, "WithinTarget", "True", "Met")).await;
    // The operator ignores jobs in its own namespace, and the admission policy rejects them.
    let mut at_home = bed.job(json!({"metadata": {"namespace": HOME}}));
    at_home["metadata"]["name"] = json!("orders");
    let jobs = Api::<DynamicObject>::namespaced_with(bed.client.clone(), HOME, &ApiResource::erase::<StreamJob>(&()));
    let apply = PatchParams { dry_run: true, ..PatchParams::apply("kubectl").force() };
    let refused = jobs.patch("orders", &apply, &Patch::Apply(&at_home)).await.unwrap_err().to_string();
    assert!(refused.contains("Sluice does nothing in the namespace sluice-upgrade-operator"), "{refused}");

    let workload = bed.deployments().get("orders").await.unwrap();
    let (workers, numbers) = (PodHistory::watch(&bed), ReplicaHistory::watch(&bed, "orders"));
    let before = roles(&pods, "http").await;
    // TLS with a certificate in a Secret, which the kubelet's probes must use as well, and the image's own user.
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["sluice".to_owned()]).unwrap().self_signed(&key).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "certificate"}, "type": "kubernetes.io/tls",
                        "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()}});
    let secrets = Api::<Secret>::namespaced(bed.client.clone(), HOME);
    secrets.patch("certificate", &PatchParams::apply("test").force(), &Patch::Apply(&secret)).await.unwrap();
    let settings = [
        "metrics.tls.secretName=certificate",
        "podSecurityContext.runAsUser=null",
        "podSecurityContext.runAsGroup=null",
        "networkPolicy.enabled=true",
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=scraper",
    ];
    install("sluice-upgrade", HOME, &settings);

    // One of the new pods becomes the leader and the other the standby.
    let mut now = Vec::new();
    for _ in 0..60 {
        now = roles(&pods, "https").await;
        now.sort_by(|one, other| one.1.cmp(&other.1));
        if matches!(&now[..], [leader, standby] if leader.1 == "leader" && standby.1 == "standby") {
            break;
        }
        tokio::time::sleep(A_MOMENT).await;
    }
    assert!(matches!(&now[..], [leader, standby] if leader.1 == "leader" && standby.1 == "standby"), "{now:?}");
    assert!(now.iter().all(|(name, _)| before.iter().all(|(old, _)| old != name)), "{before:?}, {now:?}");
    tokio::time::sleep(A_MOMENT).await;
    let after = bed.deployments().get("orders").await.unwrap();
    assert_eq!(after.metadata.generation, workload.metadata.generation);
    assert_eq!(numbers.all(), [3]);
    let moved = workers.matching(|pod| {
        let restarts = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        pod.metadata.deletion_timestamp.is_some() || restarts.map(|container| container.restart_count).sum::<i32>() > 0
    });
    assert!(moved.is_empty(), "{moved:?}");
    assert_eq!(workers.matching(|_| true).len(), 3);
    // The new leader scales the job.
    bed.patch("orders", json!({"spec": {"replicas": 4}})).await;
    bed.until_ready(4, 60).await;

    uninstall(&bed, "sluice-upgrade", HOME).await;
    Api::<Namespace>::all(bed.client.clone()).delete(HOME, &DeleteParams::default()).await.unwrap();
    bed.end().await;
}

/// Renders the operator's chart with these settings and returns the documents by kind.
fn rendered(settings: &[&str], more: &[&str]) -> BTreeMap<String, Value> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sluice");
    let mut arguments = vec!["template", "x", chart, "--namespace", "home"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    arguments.extend(more);
    let text = helm(&arguments);
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    documents.map(|document| (document["kind"].as_str().unwrap().to_owned(), document)).collect()
}

#[test]
fn chart_values_have_their_documented_effect() {
    let plain = rendered(&[], &[]);
    let pod = |rendered: &BTreeMap<String, Value>| rendered["Deployment"]["spec"]["template"]["spec"].clone();
    // The defaults are highly available.
    assert_eq!(plain["Deployment"]["spec"]["replicas"], 2);
    assert_eq!(plain["PodDisruptionBudget"]["spec"]["maxUnavailable"], 1);
    assert_eq!(pod(&plain)["topologySpreadConstraints"][0]["topologyKey"], "kubernetes.io/hostname");
    assert!(pod(&plain)["containers"][0]["args"].to_string().contains("--leader-elect"));
    assert!(!rendered(&["replicas=1"], &[]).contains_key("PodDisruptionBudget"));
    // The user that a pod runs as.
    let user = |rendered: &BTreeMap<String, Value>| pod(rendered)["securityContext"]["runAsUser"].clone();
    assert_eq!(user(&plain), 65532);
    assert_eq!(user(&rendered(&["podSecurityContext.runAsUser=null"], &[])), Value::Null);
    let open_shift = rendered(&[], &["--api-versions", "security.openshift.io/v1"]);
    assert_eq!(user(&open_shift), Value::Null);
    assert_eq!(pod(&open_shift)["securityContext"]["runAsNonRoot"], true);
    // Namespaces.
    let excluded = |rendered: &BTreeMap<String, Value>| {
        let environment = pod(rendered)["containers"][0]["env"].as_array().unwrap().clone();
        environment.into_iter().find(|variable| variable["name"] == "SLUICE_EXCLUDE_NAMESPACES")
    };
    let policy = |rendered: &BTreeMap<String, Value>| rendered["ValidatingAdmissionPolicy"]["spec"].clone();
    assert_eq!(excluded(&plain).unwrap()["value"], "kube-system,kube-public,kube-node-lease,home");
    assert!(policy(&plain)["validations"][0].to_string().contains("'kube-node-lease', 'home'"));
    assert_eq!(policy(&plain)["failurePolicy"], "Fail");
    let some = rendered(&["watchNamespaces={a,home}"], &[]);
    assert_eq!((excluded(&some), policy(&some)["validations"].as_array().unwrap().len()), (None, 1));
    let selector = &some["ValidatingAdmissionPolicyBinding"]["spec"]["matchResources"]["namespaceSelector"];
    assert_eq!(selector["matchExpressions"][0]["values"], json!(["a", "home"]));
    assert!(!rendered(&["admissionPolicy=false"], &[]).contains_key("ValidatingAdmissionPolicy"));
    // Egress policy and memory limit.
    let destinations = &[
        "egress.namespaces.team-a={10.1.0.0/16,10.2.3.4:9092}",
        "egress.namespaces.team-b={}",
        "egress.namespacesOnly=true",
    ];
    let variable = |rendered: &BTreeMap<String, Value>, name: &str| {
        let environment = pod(rendered)["containers"][0]["env"].as_array().unwrap().clone();
        environment.into_iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].clone())
    };
    let limited = rendered(destinations, &[]);
    assert_eq!(variable(&limited, "SLUICE_EGRESS_NAMESPACES"), Some(json!("team-a=10.1.0.0/16,10.2.3.4:9092;team-b=")));
    assert_eq!(variable(&limited, "SLUICE_EGRESS_NAMESPACES_ONLY"), Some(json!("true")));
    assert_eq!(
        (variable(&plain, "SLUICE_EGRESS_NAMESPACES"), variable(&plain, "SLUICE_EGRESS_NAMESPACES_ONLY")),
        (None, None)
    );
    assert_eq!(variable(&plain, "SLUICE_SOURCE_MEMORY"), Some(json!("256")));
    // TLS, also for the probes.
    let tls = pod(&rendered(&["metrics.tls.secretName=certificate"], &[]));
    let container = &tls["containers"][0];
    assert_eq!(tls["volumes"][0]["secret"]["secretName"], "certificate");
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS", "{probe}");
        assert_eq!(pod(&plain)["containers"][0][probe]["httpGet"]["scheme"], "HTTP", "{probe}");
    }
    // The network policy allows no ingress, and egress only to DNS, the API server, workers and the named destinations.
    assert!(!plain.contains_key("NetworkPolicy"));
    let network = rendered(&["networkPolicy.enabled=true", "networkPolicy.egress[0].ports[0].port=9092"], &[]);
    let network = &network["NetworkPolicy"]["spec"];
    assert_eq!(network["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(network["ingress"], Value::Null);
    let ports: Vec<&Value> =
        network["egress"].as_array().unwrap().iter().map(|rule| &rule["ports"][0]["port"]).collect();
    assert_eq!(ports, [&json!(53), &json!(443), &Value::Null, &json!(9092)]);
    assert_eq!(network["egress"][2]["to"][0]["podSelector"]["matchExpressions"][0]["key"], JOB_LABEL);
}

#[test]
fn charts_render_with_the_definitions_of_sluice_crd() {
    let charts = concat!(env!("CARGO_MANIFEST_DIR"), "/charts");
    for chart in ["sluice", "sluice-crds"] {
        helm(&["lint", "--strict", &format!("{charts}/{chart}")]);
    }
    let rendered = helm(&["template", "x", &format!("{charts}/sluice-crds"), "--set", "keep=false"]);
    let documents: Vec<serde_json::Value> = serde_yaml::Deserializer::from_str(&rendered)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    let printed: Vec<serde_json::Value> =
        sluice_api::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    let (documents, printed): (Vec<_>, Vec<_>) =
        (documents.into_iter().map(plain).collect(), printed.into_iter().map(plain).collect());
    assert!(documents == printed, "the chart's definitions differ from what sluice prints");
    let rendered = helm(&["template", "x", &format!("{charts}/sluice"), "--show-only", "templates/rbac.yaml"]);
    assert!(rendered.contains("kind: ClusterRole\n") && !rendered.contains('*'), "no wildcard in any role");
}

/// Converts all numbers to floats, because Helm writes whole floats as integers.
fn plain(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, field)| (key, plain(field))).collect(),
        other => other,
    }
}
