//! A StreamJob that cannot be read at all, for the definition in the cluster is of another version: its status says so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use sluice_api::status::StreamJobStatus;
use sluice_signals::JobKey;

use crate::apply::attempts::{Asked, Request};
use crate::context::Context;
use crate::status::conditions::{self, Facts};
use crate::validate::Problem;

/// Longest text of a parser that is repeated, in characters.
const LONGEST_DETAIL: usize = 300;

/// Tells the job, once for each generation. Its workers go on as they are.
pub(crate) async fn tell(context: &Context, metadata: &ObjectMeta, error: &str) {
    let (Some(namespace), Some(name)) = (metadata.namespace.clone(), metadata.name.clone()) else { return };
    let key = JobKey { namespace, name };
    context.signals.forget(&key);
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    let asked = Asked { spec: (metadata.generation, None), body: String::new() };
    if state.told_unreadable.is_some() && state.told_unreadable == metadata.generation
        || context.must_wait(&key, &state, Request::Status, &asked, now)
    {
        return;
    }
    let detail: String = error.chars().take(LONGEST_DETAIL).collect();
    let message = format!(
        "cannot be read by this version of Sluice: {detail}; correct the object, or install the CRD of this version"
    );
    let problems = [Problem { field: "spec".to_owned(), message }];
    let facts = Facts { generation: metadata.generation, problems: &problems, ..Facts::default() };
    let told = conditions::build(&StreamJobStatus::default(), &facts, crate::timestamp(now));
    let told = json!({ "observedGeneration": told.observed_generation, "conditions": told.conditions });
    let body = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": { "name": key.name, "namespace": key.namespace, "uid": metadata.uid },
        "status": told,
    });
    let written = context.applier.status_unread(&key, &body).await.map_err(Into::into);
    if context.note(&key, &mut state, Request::Status, asked, written, now).is_ok() {
        state.told_unreadable = metadata.generation;
    }
}
