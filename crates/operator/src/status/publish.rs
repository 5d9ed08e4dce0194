//! Writes the status of a job, and its events, if there is something to say.

use kube::ResourceExt as _;
use serde_json::json;

use sluice_api::status::{DecisionStatus, StreamJobStatus};
use sluice_api::{RESUME_ANNOTATION, StreamJob};
use sluice_base::units::Seconds;
use sluice_signals::JobKey;

use crate::apply::attempts::{Asked, Request};
use crate::context::{Context, JobState};
use crate::status::conditions;
use crate::status::conditions::Facts;
use crate::status::events;
use crate::status::learned;
use crate::status::significance;

/// Writes the status and the events if there is something to say.
pub(crate) async fn publish(
    context: &Context,
    object: &StreamJob,
    key: &JobKey,
    state: &mut JobState,
    facts: Facts<'_>,
    now: Seconds,
) {
    let empty = StreamJobStatus::default();
    // What the cache shows may be older than what was last written; somebody else's edit is put right with the next write.
    let previous = state.status.as_ref().or(object.status.as_ref()).unwrap_or(&empty);
    let untold = std::mem::take(&mut state.untold);
    let facts = Facts { untold: &untold, ..facts };
    let mut next = conditions::build(previous, &facts, crate::timestamp(now));
    let needs_write = significance::needs_write(previous, &next, facts.settings);
    let generation = object.metadata.generation;
    let asked = Asked { spec: (generation, object.annotations().get(RESUME_ANNOTATION).cloned()), body: String::new() };
    if needs_write && context.must_wait(key, state, Request::Status, &asked, now) {
        state.untold = still_untold(facts.changed, untold);
        return;
    }
    // Of what a status that could not be written says, the events have told.
    let told = state.told_by_events.as_ref().unwrap_or(&previous.conditions);
    let news = events::events(told, &next.conditions, facts.changed.as_ref(), facts.start, &mut state.withheld);
    if !needs_write {
        state.attempts.not_needed(Request::Status, now);
        events::publish(&context.recorder, object, news);
        return;
    }
    if let Some(settings) = facts.settings {
        next.attainment = learned::attainment(&state.memory, settings);
    }
    if let Some(change) = &facts.changed {
        tracing::info!(job = %key, from = change.from, to = change.to, reason = %change.reason, bound_by = %change.bound_by, "{}", change.message);
    }
    // The cache may still show what was there before our last write. Where it has skipped that version this one is refused,
    // and the next goes by the cache again.
    let seen = object.metadata.resource_version.as_ref();
    let version = state.written.take().filter(|written| Some(written) != seen);
    let body = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": object.uid(), "resourceVersion": version.as_ref().or(seen),
        },
        "status": next,
    });
    let written = context.applier.status(key, &body).await;
    events::publish(&context.recorder, object, news);
    match written {
        Ok(written) => {
            state.status = Some(next);
            state.told_by_events = None;
            state.written = written.metadata.resource_version;
            state.attempts.succeeded(Request::Status);
        }
        Err(error) => {
            state.status = None;
            state.told_by_events = Some(next.conditions);
            state.untold = still_untold(facts.changed, untold);
            // The context has told the log; nobody else is waiting for it.
            let _ = context.note(key, state, Request::Status, asked, Err::<(), _>(error.into()), now);
        }
    }
}

/// Changes that the next status has to tell of, the newest first.
fn still_untold(changed: Option<DecisionStatus>, untold: Vec<DecisionStatus>) -> Vec<DecisionStatus> {
    changed.into_iter().chain(untold).take(conditions::RECENT).collect()
}
