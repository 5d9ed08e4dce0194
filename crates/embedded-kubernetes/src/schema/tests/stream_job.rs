//! Checks which objects the definition of StreamJob allows and refuses, with the error texts of a real 1.34 server.

use super::*;

fn stream_job() -> Schema {
    let definition = documents(&crate_folder("crds/sluice.dev.yaml")).remove(0);
    Schema::from_crd_version(&definition["spec"]["versions"][0]).unwrap()
}

fn job() -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": "j"},
        "spec": {
            "objective": {"latency": "10s"}, "minReplicas": 1, "maxReplicas": 20,
            "sources": [{"name": "orders",
                "kafka": {"bootstrapServers": ["127.0.0.1:19092"], "topic": "t", "consumerGroup": "g"}}],
            "workload": {"template": {"spec": {"containers": [{"name": "w", "image": "i"}]}}},
        },
    })
}

#[test]
fn stream_job_errors_match_the_real_server() {
    let recorded = read(include_str!("../recorded/streamjob.json"));
    let schema = stream_job();
    let mut wrong = Vec::new();
    for case in recorded.as_array().unwrap() {
        let (_, errors) = created(&schema, &merge(&job(), &case["change"]));
        if errors != strings(&case["errors"]) {
            wrong.push(format!("{}\n  got  {errors:#?}\n  want {:#?}", case["change"], strings(&case["errors"])));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(created(&schema, &job()).1, Vec::<String>::new());
}

#[test]
fn transition_rules_compare_with_the_old_object() {
    let schema = stream_job();
    let (old, _) = created(&schema, &job());
    let changed = |change: Value| sorted(&schema.validate(&merge(&old, &change), Some(&old)));
    let kind = "spec.workload: Invalid value: \"object\": workload.kind cannot be changed: delete the StreamJob and \
                create it again, or create a second one";
    let claims = "spec.workload: Invalid value: \"object\": workload.volumeClaimTemplates cannot be changed";
    assert_eq!(changed(json!({"spec": {"workload": {"kind": "StatefulSet"}}})), [kind]);
    let both = json!({"spec": {"workload": {"kind": "StatefulSet", "volumeClaimTemplates": [{}]}}});
    assert_eq!(changed(both), [kind, claims]);
    let target = "spec: Invalid value: \"object\": spec cannot be changed from workload to targetRef or back, because the workers \
                  of both would run: delete the StreamJob and create it again";
    let another = json!({"spec": {"workload": null, "targetRef": {"kind": "Deployment", "name": "x"}}});
    let errors = changed(another);
    assert!(errors.contains(&target.to_owned()), "{errors:?}");
    assert_eq!(changed(json!({"spec": {"maxReplicas": 30}})), Vec::<String>::new());
}

#[test]
fn stateful_set_name_must_not_contain_a_dot() {
    let named = json!({"metadata": {"name": "a.b"}, "spec": {"workload": {"kind": "StatefulSet"}}});
    let dot = "<nil>: Invalid value: \"object\": metadata.name must not contain a dot with workload.kind: StatefulSet, \
               because the names of its pods are host names: use another name";
    assert_eq!(created(&stream_job(), &merge(&job(), &named)).1, [dot]);
}

/// If a later version of the definition adds a rule, `recorded/` needs another case.
#[test]
fn each_rule_of_the_definition_has_a_failing_case() {
    let definition = documents(&crate_folder("crds/sluice.dev.yaml")).remove(0);
    let mut messages = Vec::new();
    collect_messages(&definition, &mut messages);
    assert!(messages.len() > 20, "{}", messages.len());
    let recorded = include_str!("../recorded/streamjob.json");
    let here: Vec<&str> = include_str!("stream_job.rs").split("\\\n").map(str::trim_start).collect();
    let here = here.concat();
    let missing = messages.iter().filter(|message| !recorded.contains(*message) && !here.contains(*message));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

fn collect_messages(schema: &Value, messages: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.push(rule["message"].as_str().unwrap().to_owned());
            }
            map.values().for_each(|value| collect_messages(value, messages));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_messages(value, messages)),
        _ => {}
    }
}

#[test]
fn explicit_nulls_become_defaults_or_errors() {
    let schema = stream_job();
    let with = |field: &str, value: Value| {
        let mut object = job();
        object["spec"][field] = value;
        let (made, errors) = created(&schema, &object);
        (made["spec"].get(field).cloned(), errors)
    };
    let pinned =
        ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: <nil> is of the type <nil>, expected int64";
    assert_eq!(with("replicas", Value::Null).1, [pinned]);
    assert_eq!(with("minReplicas", Value::Null), (Some(json!(1)), vec![]), "the default takes its place");
    assert_eq!(with("processing", Value::Null), (Some(Value::Null), vec![]), "nullable");
    assert_eq!(with("targetRef", Value::Null), (Some(Value::Null), vec![]), "rules treat it as absent");
    assert_eq!(with("objective", Value::Null).0, None);
}

#[test]
fn examples_are_valid_and_not_pruned() {
    let schema = stream_job();
    let mut count = 0;
    for entry in std::fs::read_dir(crate_folder("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            for mut object in documents(path.to_str().unwrap()) {
                assert_eq!(schema.prune(&mut object), Vec::<String>::new(), "{}", path.display());
                let (made, errors) = created(&schema, &object);
                assert_eq!(errors, Vec::<String>::new(), "{}", path.display());
                assert_eq!(created(&schema, &made), (made.clone(), errors), "applying defaults again changes nothing");
                count += 1;
            }
        }
    }
    assert!(count >= 5);
}

#[test]
fn old_errors_in_unchanged_fields_are_accepted() {
    let schema = stream_job();
    let (mut old, _) = created(&schema, &job());
    old["spec"]["objective"]["latency"] = json!("1 day");
    assert_eq!(schema.validate(&merge(&old, &json!({"spec": {"suspend": true}})), Some(&old)), []);
    assert_ne!(schema.validate(&merge(&old, &json!({"spec": {"objective": {"latency": "2 days"}}})), Some(&old)), []);
}

#[test]
fn unknown_fields_are_reported() {
    let mut object = merge(
        &job(),
        &json!({"frob": 1, "metadata": {"labels": {"a": "b"}}, "spec": {"frob": {"a": 1},
        "sources": [{"name": "a", "frob": 2}], "workload": {"template": {"anything": 1}}}}),
    );
    let unknown = stream_job().prune(&mut object);
    assert_eq!(unknown, ["frob", "spec.frob", "spec.sources[0].frob"]);
    assert_eq!(object["spec"]["workload"]["template"]["anything"], 1);
    assert_eq!(object["metadata"]["labels"]["a"], "b");
}
