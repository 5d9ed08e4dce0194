//! The job of the demo: `examples/orders.yaml` with the addresses and names of this run.

use std::time::Duration;

use serde_json::{Value, json};

use super::Failure;
use sluice_api::StreamJob;

const EXAMPLE: &str = include_str!("../../../examples/orders.yaml");

/// Placeholders in the example for the reader's own brokers and image.
const BROKERS: &str = "kafka:9092";
const IMAGE: &str = "sluice";

/// The values that differ between runs.
#[derive(Debug)]
pub(super) struct JobParameters {
    pub(super) namespace: String,
    /// Bootstrap servers as the operator reaches them from this computer.
    pub(super) brokers: Vec<String>,
    /// Bootstrap servers as the workers reach them from a pod, separated by commas.
    pub(super) brokers_in_pods: String,
    pub(super) image: String,
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) max_replicas: Option<i32>,
    /// Group protocol of the workers, if it is not their default.
    pub(super) group_protocol: Option<&'static str>,
    /// Start-up delay of each worker.
    pub(super) slow_start: Option<Duration>,
}

/// Returns the example job with these parameters.
pub(super) fn build_job(parameters: &JobParameters) -> Result<StreamJob, Failure> {
    let mut job: StreamJob =
        serde_yaml::from_str(EXAMPLE).map_err(|error| format!("examples/orders.yaml in this program: {error}"))?;
    job.metadata.namespace = Some(parameters.namespace.clone());
    job.spec.max_replicas = parameters.max_replicas.unwrap_or(job.spec.max_replicas);
    let mut topic_and_group = None;
    for kafka in job.spec.sources.iter_mut().filter_map(|source| source.kafka.as_mut()) {
        topic_and_group = Some((kafka.topic.clone(), kafka.consumer_group.clone()));
        kafka.bootstrap_servers.clone_from(&parameters.brokers);
        kafka.topic.clone_from(&parameters.topic);
        kafka.consumer_group.clone_from(&parameters.group);
    }
    let (topic, group) = topic_and_group.ok_or("examples/orders.yaml in this program has no Kafka source")?;
    let replacements = [
        (BROKERS, &parameters.brokers_in_pods),
        (IMAGE, &parameters.image),
        (topic.as_str(), &parameters.topic),
        (group.as_str(), &parameters.group),
    ];
    if let Some(workload) = &mut job.spec.workload {
        workload.template.values_mut().for_each(|value| replace(value, &replacements));
        if let Some(spec) = workload.template.get_mut("spec") {
            extend_pods(spec, parameters);
        }
    }
    Ok(job)
}

/// Adds the group protocol and the start-up delay to the pods, which the example does not have.
fn extend_pods(spec: &mut Value, parameters: &JobParameters) {
    let arguments = spec.pointer_mut("/containers/0/args").and_then(Value::as_array_mut);
    if let (Some(arguments), Some(protocol)) = (arguments, parameters.group_protocol) {
        arguments.extend(["--group-protocol", protocol].map(Value::from));
    }
    let security = spec.pointer("/containers/0/securityContext").cloned().unwrap_or_default();
    if let (Some(wait), Some(spec)) = (parameters.slow_start, spec.as_object_mut()) {
        let wait = json!({
            "name": "wait", "image": parameters.image, "command": ["sleep", wait.as_secs().to_string()],
            "securityContext": security,
        });
        spec.insert("initContainers".to_owned(), json!([wait]));
    }
}

/// Replaces every string that equals one of the placeholders.
fn replace(value: &mut Value, replacements: &[(&str, &String)]) {
    match value {
        Value::String(text) => {
            if let Some((_, new)) = replacements.iter().find(|(placeholder, _)| placeholder == text) {
                text.clone_from(new);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, replacements)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, replacements)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_of_the_example_is_replaced() {
        let parameters = JobParameters {
            namespace: "demo".into(),
            brokers: vec!["127.0.0.1:1".into()],
            brokers_in_pods: "10.0.0.1:2".into(),
            image: "localhost/x:y".into(),
            topic: "orders-7".into(),
            group: "orders-enricher-7".into(),
            max_replicas: None,
            group_protocol: Some("consumer"),
            slow_start: Some(Duration::from_secs(15)),
        };
        let job = build_job(&parameters).unwrap();
        let kafka = job.spec.sources[0].kafka.clone().unwrap();
        assert_eq!(
            (kafka.bootstrap_servers, kafka.topic, kafka.consumer_group),
            (vec!["127.0.0.1:1".to_owned()], "orders-7".to_owned(), "orders-enricher-7".to_owned())
        );
        let template = job.spec.workload.unwrap().template;
        let container = &template["spec"]["containers"][0];
        assert_eq!(container["image"], "localhost/x:y");
        let args: Vec<&str> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(
            args,
            [
                "worker",
                "--bootstrap-servers",
                "10.0.0.1:2",
                "--topic",
                "orders-7",
                "--group",
                "orders-enricher-7",
                "--process-time",
                "2ms",
                "--totals",
                "--group-protocol",
                "consumer"
            ]
        );
        let wait = &template["spec"]["initContainers"][0];
        assert_eq!(wait["command"], json!(["sleep", "15"]));
        assert_eq!(wait["securityContext"], container["securityContext"]);
        assert_eq!(job.spec.max_replicas, 20);
    }
}
