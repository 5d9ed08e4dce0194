//! Rights that the chart grants, fields that the definition accepts, and Pod Security of all pods, checked on the
//! shipped files.

use std::path::Path;

use embedded_kubernetes::faults::Act;
use serde_json::{Value, json};

use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// Returns the documents of a template of the chart, with `x` in place of every value.
pub(super) fn documents(template: &str) -> Vec<Value> {
    let mut plain = String::new();
    for line in template.lines().filter(|line| !line.trim_start().starts_with("{{")) {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{") {
            plain.push_str(before);
            // A placeholder is also valid inside of quotes.
            plain.push('x');
            rest = after.split_once("}}").unwrap().1;
        }
        plain.push_str(rest);
        plain.push('\n');
    }
    let documents = plain.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// Returns all rules that the chart grants: to the operator in watched namespaces and for its lease, and to the
/// cluster's users.
fn rules() -> Vec<Value> {
    let names = include_str!("../../../../charts/sluice/templates/_names.tpl");
    let (_, of_the_operator) = names.split_once("{{- define \"sluice.rules\" -}}\n").unwrap();
    let (of_the_operator, _) = of_the_operator.split_once("{{- with .Values.extraRules }}").unwrap();
    let mut rules = serde_saphyr::from_str::<Vec<Value>>(of_the_operator).unwrap();
    for template in [
        include_str!("../../../../charts/sluice/templates/rbac.yaml"),
        include_str!("../../../../charts/sluice/templates/roles.yaml"),
    ] {
        for document in documents(template) {
            rules.extend(document["rules"].as_array().into_iter().flatten().cloned());
        }
    }
    rules
}

fn words(rule: &Value, key: &str) -> Vec<String> {
    rule[key].as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Returns why a rule grants too much, after the Kubernetes list of ways to escalate privileges
/// (<https://kubernetes.io/docs/concepts/security/rbac-good-practices/#privilege-escalation-risks>).
fn too_much(rule: &Value) -> Option<String> {
    const VERBS: [&str; 5] = ["*", "escalate", "bind", "impersonate", "approve"];
    const RESOURCES: [&str; 16] = [
        "*",
        "secrets",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "pods/proxy",
        "pods/ephemeralcontainers",
        "nodes",
        "nodes/proxy",
        "services/proxy",
        "serviceaccounts",
        "serviceaccounts/token",
        "persistentvolumes",
        "namespaces",
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
    ];
    const GROUPS: [&str; 4] =
        ["*", "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io"];
    let found =
        |key: &str, forbidden: &[&str]| words(rule, key).into_iter().find(|word| forbidden.contains(&word.as_str()));
    found("verbs", &VERBS)
        .or_else(|| found("resources", &RESOURCES))
        .or_else(|| found("apiGroups", &GROUPS))
        .or_else(|| {
            let deletes = words(rule, "verbs").iter().any(|verb| verb.starts_with("delete"));
            (deletes && words(rule, "apiGroups") != ["sluice.dev"]).then(|| "delete".to_owned())
        })
        .or_else(|| {
            let makes_pods = words(rule, "resources").contains(&"pods".to_owned())
                && words(rule, "verbs").contains(&"create".to_owned());
            makes_pods.then(|| "create pods".to_owned())
        })
}

/// Catalogue: S1.
#[test]
fn chart_grants_no_privilege_escalation() {
    let rules = rules();
    assert!(rules.len() >= 14, "{rules:?}");
    for rule in &rules {
        assert_eq!(too_much(rule), None, "{rule}");
    }
    for bad in [
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}),
        json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
        json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["get"]}),
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}),
        json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["delete"]}),
    ] {
        assert!(too_much(&bad).is_some(), "{bad}");
    }
}

/// Calls `visit` with each schema below this one, and with its path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{mark}"), &schema[key], visit);
        }
    }
}

fn spec() -> Value {
    let definitions = sluice_api::crds();
    let definition = serde_json::to_value(&definitions[0]).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Catalogue: S7.
#[test]
fn spec_has_no_reference_to_other_namespaces() {
    let mut open = Vec::new();
    walk("spec", &spec(), &mut |path, schema| {
        let name = path.rsplit('.').next().unwrap().to_lowercase();
        assert!(!name.contains("namespace"), "{path}");
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            open.push(path.to_owned());
        }
    });
    // Parts of a Deployment or StatefulSet, which the API server validates and which do not refer to other namespaces.
    // Only a claim's dataSourceRef may, and a ReferenceGrant in the other namespace must allow it.
    let of_workloads = [
        "spec.workload.persistentVolumeClaimRetentionPolicy",
        "spec.workload.strategy",
        "spec.workload.template",
        "spec.workload.volumeClaimTemplates[]",
    ];
    open.sort();
    assert_eq!(open, of_workloads);
}

/// Catalogue: S19.
#[test]
fn every_field_of_the_spec_is_bounded() {
    let mut checked = 0;
    walk("spec", &spec(), &mut |path, schema| {
        let needs: &[&str] = match schema["type"].as_str() {
            Some("integer" | "number") => &["minimum", "maximum"],
            Some("string") if schema["enum"].is_null() => &["maxLength"],
            Some("array") => &["maxItems"],
            Some("object") if schema["additionalProperties"].is_object() => &["maxProperties"],
            // The schema of these fields has no bounds, but their CEL rule has.
            _ if schema["x-kubernetes-int-or-string"] == true => &["x-kubernetes-validations"],
            _ => &[],
        };
        for need in needs {
            checked += 1;
            assert!(!schema[need].is_null(), "{path} has no {need}");
        }
    });
    assert!(checked > 40, "{checked}");
}

/// Returns a world with the namespace `restricted`, which enforces the Pod Security Standard of that name.
async fn with_restricted(seed: u64) -> World {
    let world = World::new(seed).await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    world
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}}))
        .await;
    wait(1).await;
    world
}

/// A user tries to create a pod through Sluice that the namespace does not allow.
///
/// Catalogue: S25.
#[tokio::test(start_paused = true)]
async fn pod_that_pod_security_refuses_is_reported_without_retries() {
    let mut world = with_restricted(25).await;
    let mut object = job("orders");
    object["metadata"]["namespace"] = json!("restricted");
    object["spec"]["workload"]["template"]["spec"]["hostNetwork"] = json!(true);
    world.apply(&object).await;
    let faults = world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
    wait(120).await;
    let jobs = world.list("sluice.dev", "streamjobs");
    let conditions = jobs[0]["status"]["conditions"].to_string();
    assert!(conditions.contains("violates PodSecurity") && conditions.contains("hostNetwork"), "{conditions}");
    assert_eq!(world.list("", "pods").iter().filter(|pod| pod["metadata"]["namespace"] == "restricted").count(), 0);
    let before = faults.requests().len();
    wait(600).await;
    let requests = faults.requests();
    let writes = requests[before..].iter().filter(|request| Act::Write.covers(request.act));
    let written: Vec<String> = writes.map(embedded_kubernetes::faults::Record::resource).collect();
    // After ten minutes Stalled is reported once, in the status and by an event.
    assert!(
        written.len() <= 2 && written.iter().all(|what| what.contains("status") || what.contains("events")),
        "{written:?}"
    );
    let jobs = world.list("sluice.dev", "streamjobs");
    let conditions = jobs[0]["status"]["conditions"].as_array().unwrap();
    let stalled = conditions.iter().find(|condition| condition["type"] == "Stalled").unwrap();
    assert_eq!((&stalled["status"], &stalled["reason"]), (&json!("True"), &json!("PodsRefused")));
    world.end();
}

/// Creates a pod in a namespace that enforces the Pod Security Standard "restricted", and returns the API server's
/// answer.
async fn create_restricted(world: &World, name: &str, spec: &Value) -> kube::Result<Value> {
    let metadata = json!({"name": name, "namespace": "restricted"});
    world.try_apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await
}

/// Catalogue: S24.
#[tokio::test(start_paused = true)]
async fn pods_of_chart_and_examples_satisfy_restricted_pod_security() {
    let mut world = with_restricted(24).await;

    let chart = documents(include_str!("../../../../charts/sluice/templates/deployment.yaml")).remove(0);
    let mut pod = chart["spec"]["template"]["spec"].clone();
    let values: Value = serde_saphyr::from_str(include_str!("../../../../charts/sluice/values.yaml")).unwrap();
    pod["securityContext"] = values["podSecurityContext"].clone();
    pod["containers"][0]["securityContext"] = values["securityContext"].clone();
    // Placeholders of values.
    for key in ["resources", "ports", "livenessProbe", "readinessProbe", "env", "imagePullPolicy", "volumeMounts"] {
        pod["containers"][0].as_object_mut().unwrap().remove(key);
    }
    for key in [
        "serviceAccountName",
        "imagePullSecrets",
        "priorityClassName",
        "nodeSelector",
        "tolerations",
        "affinity",
        "volumes",
        "topologySpreadConstraints",
    ] {
        pod.as_object_mut().unwrap().remove(key);
    }
    create_restricted(&world, "operator", &pod).await.unwrap();
    // OpenShift chooses the user.
    let mut unset = pod.clone();
    unset["securityContext"].as_object_mut().unwrap().retain(|key, _| key != "runAsUser" && key != "runAsGroup");
    assert_ne!(unset, pod);
    create_restricted(&world, "operator-of-any-user", &unset).await.unwrap();
    for (at, value) in [
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/containers/0/securityContext/capabilities", json!({})),
    ] {
        let mut bad = pod.clone();
        *bad.pointer_mut(at).unwrap() = value;
        let error = create_restricted(&world, "bad", &bad).await.unwrap_err().to_string();
        assert!(error.contains("violates PodSecurity"), "{at}: {error}");
    }

    let mut examples = 0;
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let example: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if example.pointer("/spec/workload/template").is_none() {
            continue;
        }
        examples += 1;
        // The operator adds the processing file and its environment variable.
        let mut object = job(example["metadata"]["name"].as_str().unwrap());
        object["spec"] = example["spec"].clone();
        object["spec"]["replicas"] = json!(1);
        object["spec"]["suspend"] = json!(false);
        world.apply(&object).await;
    }
    let _faults = world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
    wait(60).await;
    let mut built = 0;
    for workload in world.list("apps", "deployments").into_iter().chain(world.list("apps", "statefulsets")) {
        let name = workload["metadata"]["name"].as_str().unwrap();
        if workload["metadata"]["namespace"] != NAMESPACE || name == "bystander" {
            continue;
        }
        built += 1;
        let mut spec = workload["spec"]["template"]["spec"].clone();
        spec.as_object_mut().unwrap().remove("serviceAccountName");
        create_restricted(&world, name, &spec).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!((examples, built), (5, 5));
    world.end();
}
