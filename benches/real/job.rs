//! The job of a cell.

use serde_json::{Value, json};

use super::args::Args;
use super::bed::Bed;
use super::cells::{Cell, PARTITIONS, PROCESS_TIME};
use super::topic::Topic;

/// The job's target in seconds, for 99 % of the records.
pub(crate) const TARGET_SECONDS: f64 = 10.0;
pub(crate) const NAME: &str = "orders";

/// Returns the job, with `initial` workers at the start.
pub(crate) fn job(bed: &Bed, cell: &Cell, args: &Args, topic: &Topic, initial: u32) -> Value {
    let mut job = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": NAME, "namespace": bed.namespace},
        "spec": {
            "objective": {"latency": "10s", "percentile": 99},
            "minReplicas": 1,
            "maxReplicas": PARTITIONS,
            "scaling": {"initialReplicas": initial},
            "sources": [{"name": "orders", "kafka": {
                "bootstrapServers": [bed.kafka_in_pods], "topic": topic.name, "consumerGroup": topic.group}}],
            "metrics": {"port": "metrics"},
            "workload": {"template": template(bed, cell, args, topic)},
        },
    });
    if let (false, Some(spec)) = (cell.metrics, job.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.remove("metrics");
    }
    job
}

fn template(bed: &Bed, cell: &Cell, args: &Args, topic: &Topic) -> Value {
    let (join_after, commit_every) = (format!("{}s", cell.join_after), format!("{}s", cell.commit_every));
    json!({"spec": {
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "worker",
            "image": bed.image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["worker", "--bootstrap-servers", bed.kafka_in_pods, "--topic", topic.name, "--group", topic.group,
                     "--source", "orders", "--process-time", PROCESS_TIME, "--commit-interval", commit_every,
                     "--join-after", join_after, "--group-protocol", args.group_protocol, "--totals"],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"name": "metrics", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}, "periodSeconds": 1},
            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]}},
        }],
    }})
}
