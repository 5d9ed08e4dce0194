//! Rule F26: objects that quotas and pod security levels refuse.

use serde_json::{Value, json};

use super::{Bed, conformance};

conformance! {
    acting:
    /// Catalogue: F26.
    quota_limits_objects;
    /// Catalogue: F26.
    quota_counts_custom_objects_of_known_kinds;
    /// Catalogue: F26.
    quota_holds_against_concurrent_requests;
    /// Catalogue: F26.
    cpu_quota_requires_requests_from_pods;
    /// Catalogue: F26.
    pod_security_level_forbids_unrestricted_pods;
    /// Catalogue: F26.
    pod_needs_an_existing_service_account;
}

fn pod(name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = "c".into();
    container["image"] = "x:1".into();
    json!({"metadata": {"name": name}, "spec": {"nodeName": "nowhere", "containers": [container]}})
}

async fn quota(bed: &Bed, hard: Value) {
    bed.ok("POST", &bed.core("resourcequotas"), json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    bed.until(&bed.core("resourcequotas"), "q", |quota| quota["status"]["hard"].is_object()).await;
}

async fn quota_limits_objects(bed: &Bed) {
    quota(bed, json!({"pods": "1", "count/leases.coordination.k8s.io": "1"})).await;
    bed.ok("POST", &format!("{}?dryRun=All", bed.core("pods")), pod("a", json!({}))).await;
    bed.ok("POST", &bed.core("pods"), pod("a", json!({}))).await;
    let (code, refused) = bed.call("POST", &bed.core("pods"), pod("b", json!({}))).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")));
    let message = "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert_eq!(refused["message"], message);
    assert_eq!(refused["details"], json!({"name": "b", "kind": "pods"}));
    // The quota is checked before the name, which already exists.
    assert_eq!(bed.call("POST", &bed.core("pods"), pod("a", json!({}))).await.0, 403);
    bed.ok("DELETE", &bed.core("pods/a"), json!({"gracePeriodSeconds": 0})).await;
    bed.until(&bed.core("resourcequotas"), "q", |quota| quota["status"]["used"]["pods"] == "0").await;
    bed.ok("POST", &bed.core("pods"), pod("b", json!({}))).await;
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", bed.namespace);
    bed.ok("POST", &leases, json!({"metadata": {"name": "l"}})).await;
    let (code, refused) = bed.call("POST", &leases, json!({"metadata": {"name": "m"}})).await;
    assert_eq!(code, 403, "{refused}");
}

async fn quota_counts_custom_objects_of_known_kinds(bed: &Bed) {
    let hard = json!({"count/widgets.example.test": "1"});
    let known = |quota: &Value| quota["status"]["used"].get("count/widgets.example.test").is_some();
    // The real controller looks for new kinds every 30 s. A kind that it did not know when it calculated a quota is
    // counted minutes later, or when there is a new quota. Until then no object of the kind is admitted.
    for attempt in 0.. {
        quota(bed, hard.clone()).await;
        if known(&bed.get(&bed.core("resourcequotas/q")).await) {
            break;
        }
        assert!(attempt < 90, "the kind is not counted");
        let (code, refused) = bed.call("POST", &bed.widgets(), super::widget("w", json!({}))).await;
        let message = "widgets.example.test \"w\" is forbidden: status unknown for quota: q, resources: \
                       count/widgets.example.test";
        assert_eq!((code, &refused["message"]), (403, &json!(message)));
        bed.ok("DELETE", &bed.core("resourcequotas/q"), Value::Null).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    bed.create("w", json!({})).await;
    let (code, refused) = bed.call("POST", &bed.widgets(), super::widget("v", json!({}))).await;
    assert_eq!(code, 403, "{refused}");
}

async fn quota_holds_against_concurrent_requests(bed: &Bed) {
    quota(bed, json!({"pods": "5"})).await;
    let create = |number: usize| async move {
        bed.call("POST", &bed.core("pods"), pod(&format!("p{number}"), json!({}))).await.0
    };
    let mut codes = futures::future::join_all((0..20).map(create)).await;
    codes.sort_unstable();
    assert_eq!(codes, [[201; 5].as_slice(), &[403; 15]].concat());
    let quota = bed.get(&bed.core("resourcequotas/q")).await;
    assert_eq!(quota["status"]["used"]["pods"], "5");
}

async fn cpu_quota_requires_requests_from_pods(bed: &Bed) {
    quota(bed, json!({"requests.cpu": "1", "limits.memory": "1Gi"})).await;
    let (code, refused) = bed.call("POST", &bed.core("pods"), pod("a", json!({}))).await;
    assert_eq!(code, 403);
    let message = "pods \"a\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c";
    assert_eq!(refused["message"], message);
    let needs = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"memory": "512Mi"}}});
    bed.ok("POST", &bed.core("pods"), pod("a", needs("600m"))).await;
    let (code, refused) = bed.call("POST", &bed.core("pods"), pod("b", needs("0.5"))).await;
    assert_eq!(code, 403);
    let message = "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, \
                   limited: requests.cpu=1";
    assert_eq!(refused["message"], message);
    let quota = bed.get(&bed.core("resourcequotas/q")).await;
    assert_eq!(quota["status"]["used"], json!({"requests.cpu": "600m", "limits.memory": "512Mi"}));
}

async fn pod_security_level_forbids_unrestricted_pods(bed: &Bed) {
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    bed.merge(&format!("/api/v1/namespaces/{}", bed.namespace), labels).await;
    // A real server needs a moment to see the label; until then it would admit the pod.
    let mut refused = (0, Value::Null);
    for _ in 0..50 {
        refused = bed.call("POST", &format!("{}?dryRun=All", bed.core("pods")), pod("a", json!({}))).await;
        if refused.0 != 201 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let (code, refused) = refused;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{refused}");
    let message = "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != \
                   false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted \
                   capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != \
                   true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or \
                   container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(refused["message"], message);
    let restricted = json!({"securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}}});
    bed.ok("POST", &bed.core("pods"), pod("a", restricted)).await;
}

async fn pod_needs_an_existing_service_account(bed: &Bed) {
    let made = bed.ok("POST", &bed.core("pods"), pod("a", json!({}))).await;
    assert_eq!(
        (&made["spec"]["serviceAccountName"], &made["spec"]["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    let mut other = pod("b", json!({}));
    other["spec"]["serviceAccountName"] = "other".into();
    let (code, refused) = bed.call("POST", &bed.core("pods"), other).await;
    assert_eq!(code, 403);
    let message = format!(
        "pods \"b\" is forbidden: error looking up service account {}/other: serviceaccount \"other\" not found",
        bed.namespace
    );
    assert_eq!(refused["message"], message);
}
