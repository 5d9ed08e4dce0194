//! Writes the status of a job and publishes its events, if they are worth it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde_json::json;

use sluice_api::status::{DecisionStatus, StreamJobStatus};
use sluice_api::{RESUME_ANNOTATION, StreamJob};
use sluice_base::units::Seconds;
use sluice_signals::JobKey;

use crate::apply::attempts::{Request, RequestKey};
use crate::context::Context;
use crate::job_state::JobState;
use crate::status::conditions::{self, Facts};
use crate::status::events::{self, WithheldWarnings};
use crate::status::learned;
use crate::status::significance;

/// What the status and the events of a job have reported.
#[derive(Debug, Default)]
pub(crate) struct ReportedStatus {
    /// The newest status as it was written. The status in the cache may be older.
    newest: Option<StreamJobStatus>,
    /// Version of the object that this write has created, until the cache shows it.
    version: Option<String>,
    /// Conditions of a status whose write has failed. Events have reported them.
    conditions_in_events: Option<Vec<Condition>>,
    /// Changes of the replica count that no status contains yet, because its write has failed; newest first.
    unreported: Vec<DecisionStatus>,
    /// Generation that the status reports as undecodable.
    unreadable_generation: Option<i64>,
    /// Warnings that an ordinary start-up explains.
    withheld: WithheldWarnings,
    /// The last recommendation, in mode Recommend.
    recommended: Option<u32>,
}

impl ReportedStatus {
    /// Returns whether the status reports that this generation cannot be decoded.
    pub(crate) fn is_reported_unreadable(&self, generation: Option<i64>) -> bool {
        self.unreadable_generation.is_some() && self.unreadable_generation == generation
    }

    /// Records that the status reports that this generation cannot be decoded.
    pub(crate) fn record_unreadable(&mut self, generation: Option<i64>) {
        self.unreadable_generation = generation;
    }

    /// Records a recommendation, and returns the one before it.
    pub(crate) fn replace_recommendation(&mut self, recommended: Option<u32>) -> Option<u32> {
        std::mem::replace(&mut self.recommended, recommended)
    }
}

/// Writes the status if it is worth a write, and publishes events about changed conditions and decisions.
pub(crate) async fn publish(
    context: &Context,
    object: &StreamJob,
    key: &JobKey,
    state: &mut JobState,
    facts: Facts<'_>,
    now: Seconds,
) {
    let empty = StreamJobStatus::default();
    // The cache may be older than the last write. An edit by another client is corrected with the next write.
    let previous = state.reported.newest.as_ref().or(object.status.as_ref()).unwrap_or(&empty);
    let unreported = std::mem::take(&mut state.reported.unreported);
    let facts = Facts { unreported: &unreported, ..facts };
    let mut next = conditions::build(previous, &facts, crate::timestamp(now));
    let needs_write = significance::needs_write(previous, &next, facts.settings);
    let generation = object.metadata.generation;
    let request_key =
        RequestKey { spec: (generation, object.annotations().get(RESUME_ANNOTATION).cloned()), body: String::new() };
    if needs_write && context.must_wait(key, state, Request::Status, &request_key, now) {
        state.reported.unreported = still_unreported(facts.changed, unreported);
        return;
    }
    // Events have already reported the conditions of a status whose write failed.
    let reported = state.reported.conditions_in_events.as_ref().unwrap_or(&previous.conditions);
    let events =
        events::events(reported, &next.conditions, facts.changed.as_ref(), facts.start, &mut state.reported.withheld);
    if !needs_write {
        state.attempts.record_not_needed(Request::Status, now);
        events::publish(&context.recorder, object, events);
        return;
    }
    if let Some(settings) = facts.settings {
        next.attainment = learned::attainment(&state.core, settings);
    }
    if let Some(change) = &facts.changed {
        tracing::info!(job = %key, from = change.from, to = change.to, reason = %change.reason, bound_by = %change.bound_by, "{}", change.message);
    }
    // The cache may still show the version before our last write. If it has skipped that version, this write is
    // refused, and the next one uses the cache's version again.
    let seen = object.metadata.resource_version.as_ref();
    let version = state.reported.version.take().filter(|written| Some(written) != seen);
    let body = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": object.uid(), "resourceVersion": version.as_ref().or(seen),
        },
        "status": next,
    });
    let written = context.applier.status(key, &body).await;
    events::publish(&context.recorder, object, events);
    match written {
        Ok(written) => {
            state.reported.newest = Some(next);
            state.reported.conditions_in_events = None;
            state.reported.version = written.metadata.resource_version;
            state.attempts.record_success(Request::Status);
        }
        Err(error) => {
            state.reported.newest = None;
            state.reported.conditions_in_events = Some(next.conditions);
            state.reported.unreported = still_unreported(facts.changed, unreported);
            // `record_outcome` has logged the error, and no caller needs it.
            let _ = context.record_outcome(key, state, Request::Status, request_key, Err::<(), _>(error.into()), now);
        }
    }
}

/// Returns the changes that the next status has to contain, newest first.
fn still_unreported(changed: Option<DecisionStatus>, unreported: Vec<DecisionStatus>) -> Vec<DecisionStatus> {
    changed.into_iter().chain(unreported).take(conditions::RECENT).collect()
}
