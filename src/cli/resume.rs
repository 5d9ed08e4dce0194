//! `sluice resume`: tells the operator to resume autoscaling after another writer changed a job's replica count.

use std::process::ExitCode;

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use sluice_api::conditions::{SCALING_ACTIVE, STALLED, reasons};
use sluice_api::{RESUME_ANNOTATION, StreamJob};
use sluice_base::clock::Clock;

/// Arguments of `sluice resume`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the StreamJob
    #[arg(value_name = "JOB")]
    job: String,
    /// Namespace of the StreamJob [default: the namespace of the context]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
}

pub(super) fn run(args: &Args) -> super::Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let message = runtime.block_on(async {
        let client = args.cluster.client().await?;
        let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        resume(client, &namespace, &args.job, &Clock::system()).await
    })?;
    println!("{message}");
    Ok(ExitCode::SUCCESS)
}

/// Sets the resume annotation on the job, and returns the message to print.
async fn resume(
    client: Client,
    namespace: &str,
    name: &str,
    clock: &Clock,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let jobs = Api::<StreamJob>::namespaced(client, namespace);
    #[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates")]
    let now = Timestamp::from_millisecond((clock.now().0 * 1000.0) as i64)?;
    let patch = json!({"metadata": {"annotations": {RESUME_ANNOTATION: now.to_string()}}});
    let params = PatchParams { field_manager: Some("sluice/resume".to_owned()), ..PatchParams::default() };
    let job = match jobs.patch(name, &params, &Patch::Merge(&patch)).await {
        Ok(job) => job,
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            return Err(format!("failed to resume {namespace}/{name}: no such StreamJob; list them with `kubectl get streamjobs --all-namespaces`").into());
        }
        Err(error) => return Err(format!("failed to resume {namespace}/{name}: {error}").into()),
    };
    Ok(describe(&job, namespace))
}

fn describe(job: &StreamJob, namespace: &str) -> String {
    let conditions = job.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let message = |kind: &str, reason: &str| {
        let mut of_kind = conditions.iter().filter(|condition| condition.type_ == kind);
        of_kind.find(|condition| condition.reason == reason).map(|condition| condition.message.as_str())
    };
    let name = job.name_any();
    let paused = message(STALLED, reasons::CONFLICT).or_else(|| message(SCALING_ACTIVE, reasons::FOREIGN_WRITER));
    match paused {
        Some(why) => format!("{namespace}/{name}: resumed; autoscaling was paused: {why}"),
        None => format!("{namespace}/{name}: autoscaling was not paused; set the resume annotation anyway"),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::Value;

    use super::*;
    use sluice_base::units::Seconds;

    /// Runs `resume` against an API server that returns `answer`; also returns the request that it received.
    async fn resumed(status: u16, answer: Value) -> (Result<String, String>, Value) {
        let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (sender, answer) = (sender.clone(), answer.clone());
            async move {
                let uri = request.uri().to_string();
                let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                sender.send(json!([uri, kind, body])).unwrap();
                let answer = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            }
        });
        let client = Client::new(service, "payments");
        let outcome = resume(client, "payments", "orders", &Clock::starting_at(Seconds(1_764_000_000.5))).await;
        (outcome.map_err(|error| error.to_string()), requests.recv().await.unwrap())
    }

    fn job(conditions: &Value) -> Value {
        json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": "orders", "namespace": "payments"},
            "spec": {"objective": {"latency": "10s"}, "maxReplicas": 4, "sources": []},
            "status": {"replicas": 1, "readyReplicas": 1, "conditions": conditions},
        })
    }

    #[tokio::test(start_paused = true)]
    async fn resume_sets_the_annotation_and_prints_the_cause() {
        let conflict = json!([{"type": "Stalled", "status": "True", "reason": "Conflict", "message": "flux has written twice", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let (message, request) = resumed(200, job(&conflict)).await;
        assert_eq!(message.unwrap(), "payments/orders: resumed; autoscaling was paused: flux has written twice");
        let path = "/apis/sluice.dev/v1alpha1/namespaces/payments/streamjobs/orders?&fieldManager=sluice%2Fresume";
        assert_eq!(request[0].as_str().unwrap().trim_start_matches("http://localhost"), path);
        assert_eq!(request[1], "application/merge-patch+json");
        assert_eq!(request[2], json!({"metadata": {"annotations": {"sluice.dev/resume": "2025-11-24T16:00:00.5Z"}}}));
        let (message, _) = resumed(200, job(&json!([]))).await;
        assert!(message.unwrap().contains("autoscaling was not paused"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_job_is_an_error_that_names_the_fix() {
        let missing =
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"});
        let error = resumed(404, missing).await.0.unwrap_err();
        assert!(error.contains("payments/orders: no such StreamJob; list them"), "{error}");
    }
}
