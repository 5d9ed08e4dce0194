//! Checks the shape of a pod template. The schema of a StreamJob accepts any object; templates that Sluice cannot
//! extend, or that the API server would refuse with an obscure message, are refused here with a clear one. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use sluice_api::{JOB_LABEL, PROCESSING_FILE, PROCESSING_FILE_ENV};

use crate::apply::build::PROCESSING_VOLUME;
use crate::validate::Problems;

/// Path of the template in a StreamJob.
const FIELD: &str = "spec.workload.template";

/// Checks a template, and adds every problem to `problems`.
pub(crate) fn check(template: &Map<String, Value>, problems: &mut Problems) {
    if let Some(metadata) = object(template, "metadata", FIELD, problems) {
        let field = format!("{FIELD}.metadata");
        for part in ["labels", "annotations"] {
            let Some(texts) = object(metadata, part, &field, problems) else { continue };
            if texts.values().any(|value| !value.is_string()) {
                problems.add(
                    &format!("{field}.{part}"),
                    "must have strings as values: put numbers, true and false in quotes",
                );
            }
            if part == "labels" && texts.contains_key(JOB_LABEL) {
                let message = format!("must not set {JOB_LABEL}: Sluice finds its workers by it");
                problems.add(&format!("{field}.labels"), &message);
            }
        }
    }
    let field = format!("{FIELD}.spec");
    let Some(spec) = object(template, "spec", FIELD, problems) else {
        problems.add(&format!("{field}.containers"), "needs at least one container, as in a Deployment");
        return;
    };
    let mut names = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        let field = format!("{field}.{list}");
        let Some(containers) = objects(spec, list, &field, problems) else { continue };
        if list == "containers" && containers.is_empty() {
            problems.add(&field, "needs at least one container, as in a Deployment");
        }
        for (index, container) in containers.into_iter().enumerate() {
            let field = format!("{field}[{index}]");
            match container.get("name").and_then(Value::as_str) {
                None => problems.add(&format!("{field}.name"), "is missing"),
                Some(name) if !names.insert(name.to_owned()) => {
                    problems.add(&format!("{field}.name"), &format!("{name:?} is used twice"));
                }
                Some(_) => {}
            }
            check_container(container, &field, problems);
        }
    }
    check_unique(spec, "volumes", &["name"], &field, Some(PROCESSING_VOLUME), problems);
    check_unique(spec, "imagePullSecrets", &["name"], &field, None, problems);
}

fn check_container(container: &Map<String, Value>, field: &str, problems: &mut Problems) {
    let directory = PROCESSING_FILE.rsplit_once('/').map_or("/", |(directory, _)| directory);
    check_unique(container, "env", &["name"], field, Some(PROCESSING_FILE_ENV), problems);
    check_unique(container, "volumeMounts", &["mountPath"], field, Some(directory), problems);
    check_unique(container, "ports", &["containerPort", "protocol"], field, None, problems);
}

/// Checks that no two items of a list have the same key, which the API server refuses in an apply, and that none has
/// the `reserved` key of the item that Sluice adds.
fn check_unique(
    of: &Map<String, Value>,
    list: &str,
    keys: &[&str],
    field: &str,
    reserved: Option<&str>,
    problems: &mut Problems,
) {
    let field = format!("{field}.{list}");
    let mut seen = BTreeSet::new();
    for item in objects(of, list, &field, problems).into_iter().flatten() {
        let key: Vec<String> = keys.iter().map(|key| item.get(*key).map(text).unwrap_or_default()).collect();
        let shown = key.iter().map(String::as_str).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        if reserved == key.first().map(String::as_str) {
            problems.add(&field, &format!("must not have {shown:?}: Sluice adds it for the processing file"));
        } else if !seen.insert(key) {
            problems.add(&field, &format!("{shown:?} occurs twice: remove one"));
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the object in a field. `null` counts as missing.
fn object<'a>(
    of: &'a Map<String, Value>,
    key: &str,
    field: &str,
    problems: &mut Problems,
) -> Option<&'a Map<String, Value>> {
    let value = of.get(key).filter(|value| !value.is_null())?;
    if !value.is_object() {
        problems.add(&format!("{field}.{key}"), "must be an object, as in a Deployment");
    }
    value.as_object()
}

/// Returns the objects of a list in a field. `null` counts as missing.
fn objects<'a>(
    of: &'a Map<String, Value>,
    key: &str,
    field: &str,
    problems: &mut Problems,
) -> Option<Vec<&'a Map<String, Value>>> {
    let value = of.get(key).filter(|value| !value.is_null());
    if key == "containers" && value.is_none() {
        return Some(Vec::new());
    }
    let items = value?.as_array().map(|items| items.iter().filter_map(Value::as_object).collect::<Vec<_>>());
    let whole = items.as_ref().map(Vec::len) == value?.as_array().map(Vec::len);
    if items.is_none() || !whole {
        problems.add(field, "must be a list of objects, as in a Deployment");
    }
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn problems(template: &Value) -> Vec<String> {
        let mut problems = Problems::default();
        check(template.as_object().unwrap(), &mut problems);
        problems.0.iter().map(ToString::to_string).collect()
    }

    fn with(container: &Value, spec: &Value) -> Value {
        let mut containers = json!({"name": "app", "image": "i"});
        containers.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let mut all = json!({"containers": [containers]});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"spec": all})
    }

    #[test]
    fn ordinary_template_has_no_problem() {
        let container = json!({"env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}], "volumeMounts": null});
        let spec =
            json!({"initContainers": [{"name": "init", "image": "i"}], "volumes": [{"name": "tmp", "emptyDir": {}}]});
        let mut template = with(&container, &spec);
        template["metadata"] = json!({"labels": {"app": "x"}, "annotations": null});
        assert_eq!(problems(&template), [""; 0]);
    }

    #[test]
    fn unusable_template_is_reported_with_the_field() {
        let cases = [
            (
                json!({"metadata": "text", "spec": {"containers": [{"name": "a"}]}}),
                "template.metadata: must be an object",
            ),
            (
                json!({"metadata": {"labels": []}, "spec": {"containers": [{"name": "a"}]}}),
                "metadata.labels: must be an object",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}, "spec": {"containers": [{"name": "a"}]}}),
                "metadata.labels: must have strings as values",
            ),
            (json!({}), "spec.containers: needs at least one"),
            (json!({"spec": {}}), "spec.containers: needs at least one"),
            (json!({"spec": {"containers": ["x"]}}), "containers: must be a list of objects"),
            (json!({"spec": {"containers": {"name": "x"}}}), "containers: must be a list of objects"),
            (json!({"spec": {"containers": [{"image": "i"}]}}), "containers[0].name: is missing"),
            (
                with(&json!({}), &json!({"initContainers": [{"name": "app"}]})),
                "initContainers[0].name: \"app\" is used twice",
            ),
            (
                with(&json!({"env": [{"name": "A"}, {"name": "A"}]}), &json!({})),
                "containers[0].env: \"A\" occurs twice",
            ),
            (with(&json!({"env": [{"name": PROCESSING_FILE_ENV}]}), &json!({})), "Sluice adds it"),
            (with(&json!({"volumeMounts": [{"name": "x", "mountPath": "/etc/sluice"}]}), &json!({})), "Sluice adds it"),
            (with(&json!({}), &json!({"volumes": [{"name": PROCESSING_VOLUME}]})), "spec.volumes: must not have"),
            (
                with(&json!({"ports": [{"containerPort": 1}, {"containerPort": 1}]}), &json!({})),
                "ports: \"1\" occurs twice",
            ),
        ];
        for (template, expected) in cases {
            let found = problems(&template);
            assert!(found.iter().any(|problem| problem.contains(expected)), "{template}: {found:?}");
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
            any::<i8>().prop_map(Value::from)
        ];
        let keys = prop::sample::select(vec![
            "metadata",
            "labels",
            "annotations",
            "spec",
            "containers",
            "initContainers",
            "env",
            "volumeMounts",
            "volumes",
            "ports",
            "name",
            "mountPath",
        ]);
        leaf.prop_recursive(6, 48, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(keys.clone(), inner, 0..4)
                    .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ]
        })
    }

    proptest! {
        /// `metadata: text` and `containers: ["x"]` made the operator panic every minute, without a message in the
        /// status.
        #[test]
        fn template_that_passes_can_be_extended(spec in anything(), metadata in anything()) {
            let template = json!({"spec": spec, "metadata": metadata});
            if problems(&template).is_empty() {
                crate::apply::build::template("orders", template.as_object().unwrap());
            }
        }
    }
}
