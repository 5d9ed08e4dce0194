//! Files with typical mistakes, and the reported errors.

use std::collections::BTreeSet;
use std::path::Path;

use kube::CustomResourceExt as _;
use serde_json::Value;

use super::*;
use sluice_base::units::Seconds;
use sluice_policy::Settings;

const GOOD: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: StreamJob
metadata:
  name: orders
spec:
  objective:
    latency: 10s
  maxReplicas: 20
  sources:
  - name: orders
    kafka:
      bootstrapServers: [kafka:9092]
      topic: orders
      consumerGroup: orders-enricher
  workload:
    template:
      spec:
        containers:
        - name: worker
          image: orders:1
          ports: [{name: metrics, containerPort: 8080}]
";

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

/// Returns the error of a text that must be rejected.
fn error_of(text: &str) -> String {
    match parse("job.yaml", text, None) {
        Ok(job) => panic!("accepted: {text}\n{:?}", job.settings),
        Err(error) => error.to_string(),
    }
}

#[test]
fn job_file_gets_the_defaults_of_the_definition() {
    let job = parse("job.yaml", GOOD, None).unwrap();
    let settings = &job.settings;
    let expected = Settings::for_objective(Seconds(10.0), 0.99, (1, 20));
    assert_eq!(format!("{settings:?}"), format!("{expected:?}"));
    assert_eq!((job.key.namespace.as_str(), job.key.name.as_str()), ("default", "orders"));

    // The defaults are those of the definition, not those of serde.
    let nodes: Vec<Node> =
        serde_saphyr::from_multiple(&edited("  workload:\n", "  scaling: {}\n  workload:\n")).unwrap();
    let (value, findings) = definition::stream_job().unwrap().apply(&nodes[0]);
    assert!(findings.is_empty(), "{findings:?}");
    for (field, default) in
        [("minReplicas", "1"), ("scaling/maxStepDown", "\"30%\""), ("workload/kind", "\"Deployment\"")]
    {
        assert_eq!(value.pointer(&format!("/spec/{field}")).unwrap().to_string(), default, "{field}");
    }
    assert!(value.pointer("/spec/metrics").is_none(), "a default of a field does not create its object");
}

#[test]
fn every_example_is_read_as_by_serde() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        count += 1;
        let job = read(&path, None).unwrap_or_else(|error| panic!("{error}"));
        let mut object: StreamJob = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        object.metadata.namespace.get_or_insert_with(|| "default".into());
        object.metadata.uid = Some("from-a-file".into());
        assert_eq!(format!("{job:?}"), format!("{:?}", validate(&object).unwrap()), "{}", path.display());
    }
    assert!(count >= 6);
}

#[test]
fn each_mistake_is_reported_with_its_place_and_a_hint() {
    for (from, to, message) in [
        (
            "maxReplicas: 20",
            "maxReplica: 20",
            "job.yaml:8:3: spec.maxReplica: unknown field; did you mean `maxReplicas`?",
        ),
        ("  maxReplicas: 20\n", "", "job.yaml:5:1: spec.maxReplicas: Required value; "),
        (
            "maxReplicas: 20",
            "maxReplicas: 20\n  percentile: 99",
            "job.yaml:9:3: spec.percentile: unknown field; `percentile` belongs to `spec.objective`",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: \"20\"",
            "job.yaml:8:16: spec.maxReplicas: Invalid value: \"string\": spec.maxReplicas in body must be of type integer: \"string\"; remove the quotes",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: 0",
            "8:16: spec.maxReplicas: Invalid value: 0: spec.maxReplicas in body should be greater than or equal to 1",
        ),
        ("maxReplicas: 20", "maxReplicas: 2.5", "spec.maxReplicas in body must be of type integer: \"number\""),
        (
            "latency: 10s",
            "latency: 10",
            "job.yaml:7:14: spec.objective.latency: Invalid value: \"integer\": spec.objective.latency in body must be of type string: \"integer\"; add a unit, such as 10s",
        ),
        ("latency: 10s", "latency: 1 day", "; write a duration such as 500ms, 10s or 1h30m"),
        (
            "latency: 10s",
            "latency: 48h",
            "7:14: spec.objective.latency: Invalid value: \"string\": objective.latency must lie between 100ms and 24h",
        ),
        (
            "latency: 10s",
            "latency: 10s\n    percentile: 99.9",
            "8:17: spec.objective.percentile: Invalid value: \"number\": spec.objective.percentile in body must be of type integer,string: \"number\"; put it in quotes: \"99.9\"",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: 20\n  minReplicas: 30",
            "9:16: spec.minReplicas: Invalid value: \"object\": minReplicas must not be larger than maxReplicas",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: 20\n  scaling: {mode: auto}",
            "9:19: spec.scaling.mode: Unsupported value: \"auto\": supported values: \"Auto\", \"OutOnly\", \"InOnly\", \"Recommend\"; did you mean `Auto`?",
        ),
        (
            "topic: orders",
            "topic: orders!",
            "13:14: spec.sources[0].kafka.topic: Invalid value: \"orders!\": spec.sources[0].kafka.topic in body should match '^[a-zA-Z0-9._-]+$'",
        ),
        (
            "[kafka:9092]",
            "kafka:9092",
            "12:25: spec.sources[0].kafka.bootstrapServers: Invalid value: \"string\": spec.sources[0].kafka.bootstrapServers in body must be of type array: \"string\"; begin each entry with `- `",
        ),
        ("[kafka:9092]", "[]", "bootstrapServers in body should have at least 1 items"),
        (
            "  name: orders\n",
            "  name: Orders\n",
            "4:9: metadata.name: Invalid value: \"Orders\": metadata.name in body should match",
        ),
        ("  name: orders\n", "  nam: orders\n", "4:3: metadata.nam: unknown field; did you mean `name`?"),
        ("metadata:", "metadat:", "3:1: metadat: unknown field; did you mean `metadata`?"),
        ("kind: StreamJob", "kind: Streamjob", "job.yaml:2:7: kind: expected StreamJob, found Streamjob"),
        ("v1alpha1", "v1", "1:13: apiVersion: expected sluice.dev/v1alpha1, found sluice.dev/v1"),
        (
            "  workload:",
            "  targetRef: {kind: Deployment, name: orders}\n  workload:",
            "5:1: spec: Invalid value: \"object\": give exactly one of",
        ),
        ("maxReplicas: 20", "maxReplicas: 20\n  maxReplicas: 21", "job.yaml:9:3: invalid YAML: duplicate"),
        ("[kafka:9092]", "[kafka:9092", "invalid YAML"),
        ("spec:", "\tspec:", "invalid YAML"),
    ] {
        let error = error_of(&edited(from, to));
        assert!(error.contains(message), "{to}:\n{error}\nand not\n{message}");
    }
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = edited("latency: 10s", "latency: 10").replace("maxReplicas", "maxReplica").replace("topic", "topik");
    let error = error_of(&text);
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 5, "{error}");
    for (line, part) in
        lines.iter().zip(["maxReplicas: Required value", "latency", "maxReplica:", "topic: Required value", "topik"])
    {
        assert!(line.contains(part), "{error}");
    }
}

#[test]
fn an_unknown_field_is_not_also_reported_as_a_broken_rule() {
    let error = error_of(&GOOD.replace("workload", "workloads"));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("did you mean `workload`?"), "{error}");
}

#[test]
fn a_null_field_counts_as_absent() {
    let nulls = edited("maxReplicas: 20", "maxReplicas: 20\n  replicas: null\n  scaling:");
    parse("job.yaml", &nulls, None).unwrap_or_else(|error| panic!("{error}"));
    assert!(error_of(&edited("maxReplicas: 20", "maxReplicas:")).contains("spec.maxReplicas: Required value"));
}

#[test]
fn the_job_is_selected_among_several_documents() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: orders}\n";
    assert!(parse("f", &format!("{service}---\n{GOOD}---\n"), None).is_ok());
    let second = GOOD.replace("name: orders\nspec", "name: payments\nspec");
    let both = format!("{GOOD}---\n{second}");
    let error = parse("f", &both, None).unwrap_err().to_string();
    assert_eq!(error, "f: more than one StreamJob; choose one with --name: orders, payments");
    assert_eq!(parse("f", &both, Some("payments")).unwrap().key.name, "payments");
    for (text, name, message) in [
        (both.as_str(), Some("refunds"), "f: no StreamJob is named refunds; choose one of orders, payments"),
        (&format!("{service}---\n{service}"), None, "f: expected a StreamJob, found Service, Service"),
        (service, None, "f:2:7: kind: expected StreamJob, found Service"),
        ("", None, "f: expected a StreamJob, found an empty file"),
        ("# nothing\n", None, "f: expected a StreamJob, found an empty file"),
    ] {
        assert_eq!(parse("f", text, name).unwrap_err().to_string(), message);
    }
    let error =
        parse("f", &format!("{GOOD}---\n{}", second.replace("maxReplicas", "max")), Some("payments")).unwrap_err();
    assert!(error.to_string().contains("f:30:3: spec.max: unknown field"), "{error}");
}

#[test]
fn output_of_kubectl_get_can_be_read() {
    let text = edited(
        "  name: orders\n",
        "  name: orders\n  uid: abc\n  generation: 3\n  managedFields: [{manager: kubectl}]\n",
    ) + "status: {replicas: 3, conditions: []}\n";
    assert_eq!(parse("f", &text, None).unwrap().uid, "abc");
}

#[test]
fn an_error_on_a_terminal_shows_the_source_line() {
    let error = parse("job.yaml", &edited("maxReplicas: 20", "maxReplica: 20"), None).unwrap_err();
    let picture = error.with_source_lines(false);
    for part in ["job.yaml:8:3", "maxReplica: 20", "did you mean `maxReplicas`?"] {
        assert!(picture.contains(part), "{picture}");
    }
}

/// Every rule of the definition with a job that breaks it. A new rule fails this test until a case for it is added
/// here.
#[test]
fn every_rule_of_the_definition_is_checked() {
    let spec = |line: &str| edited("maxReplicas: 20", &format!("maxReplicas: 20\n  {line}"));
    let schedule =
        |rest: &str| spec(&format!("scaling: {{schedules: [{{name: a, schedule: \"0 7 * * *\", {rest}}}]}}"));
    let cases = [
        (
            "metadata.name must have at most 52 characters, because the names of the workers are made from it: use a shorter name",
            edited("  name: orders\n", &format!("  name: {}\n", "a".repeat(53))),
        ),
        (
            "metadata.name must not contain a dot with workload.kind: StatefulSet, because the names of its pods are host names: use another name",
            edited("  name: orders\n", "  name: a.b\n")
                .replace("  workload:\n", "  workload:\n    kind: StatefulSet\n"),
        ),
        ("minReplicas must not be larger than maxReplicas", spec("minReplicas: 21")),
        (
            "replicas must not be larger than maxReplicas: raise maxReplicas first, it is the cost bound",
            spec("replicas: 21"),
        ),
        (
            "give exactly one of workload (Sluice runs the workers) and targetRef (an existing workload)",
            spec("targetRef: {kind: Deployment, name: orders}"),
        ),
        ("scaling.initialReplicas must not be larger than maxReplicas", spec("scaling: {initialReplicas: 21}")),
        ("objective.latency must lie between 100ms and 24h", edited("10s", "25h")),
        (
            "objective.percentile must lie between 50 and 99.99, with at most two decimals",
            edited("latency: 10s", "latency: 10s\n    percentile: 100"),
        ),
        ("objective.window must lie between 1m and 720h", edited("latency: 10s", "latency: 10s\n    window: 1s")),
        (
            "say what kind of source this is: kafka",
            edited(
                "    kafka:\n      bootstrapServers: [kafka:9092]\n      topic: orders\n      consumerGroup: orders-enricher\n",
                "",
            ),
        ),
        (
            "volumeClaimTemplates and persistentVolumeClaimRetentionPolicy need workload.kind: StatefulSet",
            edited("  workload:\n", "  workload:\n    volumeClaimTemplates: [{}]\n"),
        ),
        ("metrics.port must be a port number or the name of a container port", spec("metrics: {port: Metrics}")),
        (
            "scaling.maxStepUp must be a number of at least 1, or a percentage between 1% and 1000%",
            spec("scaling: {maxStepUp: 30}").replace("30", "0"),
        ),
        (
            "scaling.maxStepDown must be a number of at least 1, or a percentage between 1% and 1000%",
            spec("scaling: {maxStepDown: 0%}"),
        ),
        ("duration of a schedule must lie between 1m and 168h", schedule("duration: 1s, minReplicas: 1")),
        ("a schedule needs minReplicas, maxReplicas or both", schedule("duration: 1h")),
        (
            "minReplicas of a schedule must not be larger than its maxReplicas",
            schedule("duration: 1h, minReplicas: 3, maxReplicas: 2"),
        ),
        ("scaling.fallback.after must lie between 30s and 24h", spec("scaling: {fallback: {after: 1s}}")),
        ("processing.batchInterval needs processing.style: MicroBatch", spec("processing: {batchInterval: 1s}")),
        (
            "processing.batchInterval must lie between 100ms and 1h",
            spec("processing: {style: MicroBatch, batchInterval: 2h}"),
        ),
    ];
    for (message, text) in &cases {
        let error = error_of(text);
        assert!(error.lines().count() == 1 && error.contains(message), "{message}\n{text}\n{error}");
    }
    let checked: BTreeSet<&str> = cases.iter().map(|(message, _)| *message).collect();
    let definition = serde_json::to_value(StreamJob::crd()).unwrap();
    let mut rules = BTreeSet::new();
    collect(&definition, &mut rules);
    // Rules about changes do not apply to a file.
    rules.retain(|message| !message.contains("cannot be changed"));
    assert_eq!(rules, checked);
}

fn collect<'a>(value: &'a Value, rules: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                rules.extend(rule["message"].as_str());
            }
            fields.values().for_each(|value| collect(value, rules));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, rules)),
        _ => {}
    }
}
