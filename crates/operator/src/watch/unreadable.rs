//! Reports a StreamJob that cannot be decoded, as when the definition in the cluster is of another version, in its
//! status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use sluice_api::status::StreamJobStatus;
use sluice_signals::JobKey;

use crate::apply::attempts::{Request, RequestKey};
use crate::context::Context;
use crate::status::conditions::{self, Facts};
use crate::validate::Problem;

/// Maximum length of a decoding error in the status, in characters.
const LONGEST_DETAIL: usize = 300;

/// Writes the error to the status of the job, once for each generation. Its workers keep running.
pub(crate) async fn report(context: &Context, metadata: &ObjectMeta, error: &str) {
    let (Some(namespace), Some(name)) = (metadata.namespace.clone(), metadata.name.clone()) else { return };
    let key = JobKey { namespace, name };
    context.signals.forget(&key);
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    let request_key = RequestKey { spec: (metadata.generation, None), body: String::new() };
    if state.reported.is_reported_unreadable(metadata.generation)
        || context.must_wait(&key, &state, Request::Status, &request_key, now)
    {
        return;
    }
    let detail: String = error.chars().take(LONGEST_DETAIL).collect();
    let message = format!(
        "cannot be decoded by this version of Sluice: {detail}: correct the object, or install the CRD of this version"
    );
    let problems = [Problem { field: "spec".to_owned(), message }];
    let facts = Facts { generation: metadata.generation, problems: &problems, ..Facts::default() };
    let status = conditions::build(&StreamJobStatus::default(), &facts, crate::timestamp(now));
    let status = json!({ "observedGeneration": status.observed_generation, "conditions": status.conditions });
    let body = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": { "name": key.name, "namespace": key.namespace, "uid": metadata.uid },
        "status": status,
    });
    let written = context.applier.merge_status(&key, &body).await.map_err(Into::into);
    if context.record_outcome(&key, &mut state, Request::Status, request_key, written, now).is_ok() {
        state.reported.record_unreadable(metadata.generation);
    }
}
