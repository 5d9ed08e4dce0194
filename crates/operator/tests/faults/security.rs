//! What the chart grants, what the definition lets in, and what pods ask for: read from what is shipped.

use std::path::Path;

use embedded_kubernetes::faults::Act;
use serde_json::{Value, json};

use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// The documents of a template of the chart, with every value and every label left out of them.
pub(super) fn documents(template: &str) -> Vec<Value> {
    let mut plain = String::new();
    for line in template.lines().filter(|line| !line.trim_start().starts_with("{{")) {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{") {
            plain.push_str(before);
            // Inside of quotes of its own it is a word already.
            plain.push('x');
            rest = after.split_once("}}").unwrap().1;
        }
        plain.push_str(rest);
        plain.push('\n');
    }
    let documents = plain.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// The rules that the chart grants to anybody: to the operator where it watches, for its lease, and to the cluster's users.
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

/// Why a rule is more than an operator like this may have; after Kubernetes' own list of ways to escalate privileges.
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

#[test]
fn t10_s1_nothing_in_the_chart_grants_a_way_to_more_rights() {
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

#[test]
fn t10_s7_no_reference_leaves_the_jobs_own_namespace() {
    let mut open = Vec::new();
    walk("spec", &spec(), &mut |path, schema| {
        let name = path.rsplit('.').next().unwrap().to_lowercase();
        assert!(!name.contains("namespace"), "{path}");
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            open.push(path.to_owned());
        }
    });
    // Parts of a Deployment or StatefulSet, which the API server judges as such and of which none leaves its namespace. A
    // claim's dataSourceRef may; a grant in the other namespace decides there (ReferenceGrant).
    let of_workloads = [
        "spec.workload.persistentVolumeClaimRetentionPolicy",
        "spec.workload.strategy",
        "spec.workload.template",
        "spec.workload.volumeClaimTemplates[]",
    ];
    open.sort();
    assert_eq!(open, of_workloads);
}

#[test]
fn t10_s19_everything_in_a_spec_is_bounded() {
    let mut seen = 0;
    walk("spec", &spec(), &mut |path, schema| {
        let needs: &[&str] = match schema["type"].as_str() {
            Some("integer" | "number") => &["minimum", "maximum"],
            Some("string") if schema["enum"].is_null() => &["maxLength"],
            Some("array") => &["maxItems"],
            Some("object") if schema["additionalProperties"].is_object() => &["maxProperties"],
            // The schema of these has no bounds of its own; the rule has.
            _ if schema["x-kubernetes-int-or-string"] == true => &["x-kubernetes-validations"],
            _ => &[],
        };
        for need in needs {
            seen += 1;
            assert!(!schema[need].is_null(), "{path} has no {need}");
        }
    });
    assert!(seen > 40, "{seen}");
}

/// A world with the namespace `restricted`, which enforces Pod Security of that name.
async fn with_restricted(seed: u64) -> World {
    let world = World::new(seed).await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    world
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}}))
        .await;
    wait(1).await;
    world
}

/// Somebody tries to come by a pod through us that the namespace does not let him make.
#[tokio::test(start_paused = true)]
async fn t10_s25_a_pod_that_the_namespace_does_not_admit_is_told_and_not_tried_again_and_again() {
    let mut world = with_restricted(25).await;
    let mut object = job("orders");
    object["metadata"]["namespace"] = json!("restricted");
    object["spec"]["workload"]["template"]["spec"]["hostNetwork"] = json!(true);
    world.apply(&object).await;
    let faults = world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
    wait(120).await;
    let jobs = world.list("sluice.dev", "streamjobs");
    let said = jobs[0]["status"]["conditions"].to_string();
    assert!(said.contains("violates PodSecurity") && said.contains("hostNetwork"), "{said}");
    assert_eq!(world.list("", "pods").iter().filter(|pod| pod["metadata"]["namespace"] == "restricted").count(), 0);
    let before = faults.requests().len();
    wait(600).await;
    let requests = faults.requests();
    let writes = requests[before..].iter().filter(|request| Act::Write.covers(request.act));
    let written: Vec<String> = writes.map(embedded_kubernetes::faults::Record::resource).collect();
    // After ten minutes it is told that a person is needed, once, in the status and by an event.
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

/// What Pod Security "restricted" says of a pod, by a namespace that enforces it.
async fn judged(world: &World, name: &str, spec: &Value) -> kube::Result<Value> {
    let metadata = json!({"name": name, "namespace": "restricted"});
    world.try_apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await
}

#[tokio::test(start_paused = true)]
async fn t10_s24_pods_of_the_chart_the_examples_and_the_operator_are_restricted() {
    let mut world = with_restricted(24).await;

    let chart = documents(include_str!("../../../../charts/sluice/templates/deployment.yaml")).remove(0);
    let mut pod = chart["spec"]["template"]["spec"].clone();
    let values: Value = serde_saphyr::from_str(include_str!("../../../../charts/sluice/values.yaml")).unwrap();
    pod["securityContext"] = values["podSecurityContext"].clone();
    pod["containers"][0]["securityContext"] = values["securityContext"].clone();
    // Values, which are left out.
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
    judged(&world, "operator", &pod).await.unwrap();
    // OpenShift chooses the user.
    let mut unset = pod.clone();
    unset["securityContext"].as_object_mut().unwrap().retain(|key, _| key != "runAsUser" && key != "runAsGroup");
    assert_ne!(unset, pod);
    judged(&world, "operator-of-any-user", &unset).await.unwrap();
    for (at, value) in [
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/containers/0/securityContext/capabilities", json!({})),
    ] {
        let mut bad = pod.clone();
        *bad.pointer_mut(at).unwrap() = value;
        let error = judged(&world, "bad", &bad).await.unwrap_err().to_string();
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
        // What the operator makes of it, file and environment and all.
        let mut made = job(example["metadata"]["name"].as_str().unwrap());
        made["spec"] = example["spec"].clone();
        made["spec"]["replicas"] = json!(1);
        made["spec"]["suspend"] = json!(false);
        world.apply(&made).await;
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
        judged(&world, name, &spec).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!((examples, built), (5, 5));
    world.end();
}
