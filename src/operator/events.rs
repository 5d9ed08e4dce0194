//! Events: one for each decision, and one for each change of a refusal. Best effort: a lost event fails nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder};

use crate::api::StreamJob;
use crate::api::conditions::{METRICS_AVAILABLE, READY, SCALING_ACTIVE, SCALING_LIMITED, STALLED};
use crate::api::status::DecisionStatus;

/// The API server refuses a longer note.
const NOTE_BYTES: usize = 1000;

/// What there is to say. Pure.
pub(super) fn events(before: &[Condition], after: &[Condition], changed: Option<&DecisionStatus>) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(change) = changed {
        events.push(event(EventType::Normal, &change.reason, "Scale", &change.message));
    }
    for condition in after {
        let old = before.iter().find(|old| old.type_ == condition.type_);
        let flipped = old.is_none_or(|old| old.status != condition.status || old.reason != condition.reason);
        let (bad, watched) = match condition.type_.as_str() {
            READY | METRICS_AVAILABLE => ("False", true),
            // Pinned, Recommend and Suspended are what the user asked for.
            SCALING_ACTIVE => ("False", condition.reason == "ForeignWriter"),
            SCALING_LIMITED | STALLED => ("True", true),
            _ => ("", false),
        };
        if !flipped || !watched {
            continue;
        }
        if condition.status == bad {
            events.push(event(EventType::Warning, &condition.reason, "Observe", &condition.message));
        } else if old.is_some_and(|old| old.status == bad) {
            events.push(event(EventType::Normal, &condition.reason, "Observe", &condition.message));
        }
    }
    events
}

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    let mut note = note.to_owned();
    if note.len() > NOTE_BYTES {
        let end = (0..=NOTE_BYTES).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
    }
    Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None }
}

/// Publishes in the background, so that a slow API server delays no reconcile.
pub(super) fn publish(recorder: &Recorder, object: &StreamJob, events: Vec<Event>) {
    if events.is_empty() {
        return;
    }
    let (recorder, reference) = (recorder.clone(), object.object_ref(&()));
    tokio::spawn(async move {
        for event in events {
            let published =
                tokio::time::timeout(super::lease::WRITE_TIMEOUT, recorder.publish(&event, &reference)).await;
            if let Ok(Err(error)) = published {
                tracing::warn!(error = %error, reason = %event.reason, "failed to publish an event");
            }
        }
    });
}
