//! Files as people write them, with what they are told.

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

fn told(text: &str) -> String {
    match parse("job.yaml", text, None) {
        Ok(job) => panic!("accepted: {text}\n{:?}", job.settings),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_job_gets_the_defaults_of_the_definition() {
    let job = parse("job.yaml", GOOD, None).unwrap();
    let settings = &job.settings;
    let expected = Settings::for_objective(Seconds(10.0), 0.99, (1, 20));
    assert_eq!(format!("{settings:?}"), format!("{expected:?}"));
    assert_eq!((job.key.namespace.as_str(), job.key.name.as_str()), ("default", "orders"));

    // From the definition, not from what serde would do.
    let nodes: Vec<Node> =
        serde_saphyr::from_multiple(&edited("  workload:\n", "  scaling: {}\n  workload:\n")).unwrap();
    let (check, value) = Check::document(&nodes[0], &schema::stream_job());
    assert!(check.findings.is_empty());
    for (field, default) in
        [("minReplicas", "1"), ("scaling/maxStepDown", "\"30%\""), ("workload/kind", "\"Deployment\"")]
    {
        assert_eq!(value.pointer(&format!("/spec/{field}")).unwrap().to_string(), default, "{field}");
    }
    assert!(value.pointer("/spec/metrics").is_none(), "defaults make no object that is not there");
}

#[test]
fn every_example_is_read_as_serde_reads_it() {
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
fn a_mistake_is_told_with_its_place_and_what_was_meant() {
    for (from, to, message) in [
        (
            "maxReplicas: 20",
            "maxReplica: 20",
            "job.yaml:8:3: spec.maxReplica: unknown field; did you mean `maxReplicas`?",
        ),
        ("  maxReplicas: 20\n", "", "job.yaml:5:1: spec.maxReplicas: is missing; Most workers"),
        (
            "maxReplicas: 20",
            "maxReplicas: 20\n  percentile: 99",
            "job.yaml:9:3: spec.percentile: unknown field; `percentile` belongs to `spec.objective`",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: \"20\"",
            "job.yaml:8:16: spec.maxReplicas: expected a whole number, found the text \"20\"; leave out the quotes",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: 0",
            "8:16: spec.maxReplicas: expected a whole number between 1 and 10000, found 0",
        ),
        ("maxReplicas: 20", "maxReplicas: 2.5", "expected a whole number, found the number 2.5"),
        (
            "latency: 10s",
            "latency: 10",
            "job.yaml:7:14: spec.objective.latency: expected a text, found the number 10; give it a unit: 10s",
        ),
        ("latency: 10s", "latency: 1 day", "expected a duration such as 500ms, 10s or 1h30m, found the text \"1 day\""),
        ("latency: 10s", "latency: 48h", "7:14: spec.objective.latency: must lie between 100ms and 1d"),
        (
            "latency: 10s",
            "latency: 10s\n    percentile: 99.9",
            "8:17: spec.objective.percentile: expected a whole number or a text, found the number 99.9; put it in quotes: \"99.9\"",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: 20\n  minReplicas: 30",
            "9:16: spec.minReplicas: must not be larger than maxReplicas",
        ),
        (
            "maxReplicas: 20",
            "maxReplicas: 20\n  scaling: {mode: auto}",
            "9:19: spec.scaling.mode: expected one of Auto, OutOnly, InOnly, Recommend, found the text \"auto\"; did you mean `Auto`?",
        ),
        (
            "topic: orders",
            "topic: orders!",
            "13:14: spec.sources[0].kafka.topic: expected a text like ^[a-zA-Z0-9._-]+$",
        ),
        (
            "[kafka:9092]",
            "kafka:9092",
            "12:25: spec.sources[0].kafka.bootstrapServers: expected a list, found the text \"kafka:9092\"; begin each entry with `- `",
        ),
        ("[kafka:9092]", "[]", "expected 1 to 16 entries, found 0"),
        ("  name: orders\n", "  name: Orders\n", "4:9: metadata.name: expected a text like"),
        ("  name: orders\n", "  nam: orders\n", "4:3: metadata.nam: unknown field; did you mean `name`?"),
        ("metadata:", "metadat:", "3:1: metadat: unknown field; did you mean `metadata`?"),
        ("kind: StreamJob", "kind: Streamjob", "job.yaml:2:7: kind: expected StreamJob, found Streamjob"),
        ("v1alpha1", "v1", "1:13: apiVersion: expected sluice.dev/v1alpha1, found sluice.dev/v1"),
        ("  workload:", "  targetRef: {kind: Deployment, name: orders}\n  workload:", "5:1: spec: give exactly one of"),
        (
            "maxReplicas: 20",
            "maxReplicas: 20\n  maxReplicas: 21",
            "job.yaml:9:3: this is not YAML that can be used: duplicate",
        ),
        ("[kafka:9092]", "[kafka:9092", "this is not YAML that can be used"),
        ("spec:", "\tspec:", "this is not YAML that can be used"),
    ] {
        let told = told(&edited(from, to));
        assert!(told.contains(message), "{to}:\n{told}\nand not\n{message}");
    }
}

#[test]
fn every_mistake_is_told_at_once_and_in_the_order_of_the_file() {
    let text = edited("latency: 10s", "latency: 10").replace("maxReplicas", "maxReplica").replace("topic", "topik");
    let told = told(&text);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 5, "{told}");
    for (line, part) in
        lines.iter().zip(["maxReplicas: is missing", "latency", "maxReplica:", "topic: is missing", "topik"])
    {
        assert!(line.contains(part), "{told}");
    }
}

#[test]
fn an_unknown_field_is_not_told_again_as_a_missing_whole() {
    let told = told(&GOOD.replace("workload", "workloads"));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("did you mean `workload`?"), "{told}");
}

#[test]
fn null_is_absent() {
    assert!(
        parse("job.yaml", &edited("maxReplicas: 20", "maxReplicas: 20\n  replicas: null\n  scaling:"), None).is_ok()
    );
    assert!(told(&edited("maxReplicas: 20", "maxReplicas:")).contains("spec.maxReplicas: is missing"));
}

#[test]
fn of_several_documents_the_job_is_taken() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: orders}\n";
    assert!(parse("f", &format!("{service}---\n{GOOD}---\n"), None).is_ok());
    let second = GOOD.replace("name: orders\nspec", "name: payments\nspec");
    let both = format!("{GOOD}---\n{second}");
    let error = parse("f", &both, None).unwrap_err().to_string();
    assert_eq!(error, "f: more than one StreamJob: pick one with --name: orders, payments");
    assert_eq!(parse("f", &both, Some("payments")).unwrap().key.name, "payments");
    for (text, name, message) in [
        (both.as_str(), Some("refunds"), "f: no StreamJob is named refunds; there is orders, payments"),
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
fn what_a_server_answers_can_be_read() {
    let text = edited(
        "  name: orders\n",
        "  name: orders\n  uid: abc\n  generation: 3\n  managedFields: [{manager: kubectl}]\n",
    ) + "status: {replicas: 3, conditions: []}\n";
    assert_eq!(parse("f", &text, None).unwrap().uid, "abc");
}

#[test]
fn a_picture_shows_the_line() {
    let error = parse("job.yaml", &edited("maxReplicas: 20", "maxReplica: 20"), None).unwrap_err();
    let picture = error.picture(false);
    for part in ["job.yaml:8:3", "maxReplica: 20", "did you mean `maxReplicas`?"] {
        assert!(picture.contains(part), "{picture}");
    }
}

/// Every rule of the definition, with a job that breaks it. A new rule fails this test until it is checked here too.
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
    for (_, text) in &cases {
        assert_eq!(told(text).lines().count(), 1, "{text}\n{}", told(text));
    }
    let checked: BTreeSet<&str> = cases.iter().map(|(message, _)| *message).collect();
    let definition = serde_json::to_value(StreamJob::crd()).unwrap();
    let mut rules = BTreeSet::new();
    collect(&definition, &mut rules);
    // Rules about a change have no place in a file.
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
