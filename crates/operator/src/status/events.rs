//! Events: one for each decision, and one for each condition that becomes bad or good again. Publishing is best effort:
//! a lost event does not fail the reconcile.
//!
//! Every job begins without a ready worker and with unread sources. Events report this only once it has lasted too
//! long.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder};

use sluice_api::StreamJob;
use sluice_api::conditions::{METRICS_AVAILABLE, READY, SCALING_ACTIVE, SCALING_LIMITED, STALLED, reasons};
use sluice_api::status::DecisionStatus;

/// Maximum length of an event's note, bytes; the API server refuses a longer one.
const NOTE_BYTES: usize = 1000;

/// The bad conditions that an ordinary start-up explains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StartUp {
    /// No worker is ready because all pods are new.
    pub(crate) workers: bool,
    /// A source has not been read because there was no time for an answer yet.
    pub(crate) signals: bool,
}

impl StartUp {
    fn explains(self, condition: &Condition, old: Option<&Condition>) -> bool {
        match condition.type_.as_str() {
            // A job whose workers have disappeared is not starting up.
            READY => {
                self.workers
                    && condition.reason == reasons::NO_READY_WORKERS
                    && old.is_none_or(|old| old.reason != reasons::READY)
            }
            METRICS_AVAILABLE => self.signals && condition.reason == reasons::NO_SIGNAL,
            _ => false,
        }
    }
}

/// The types of the conditions that became bad in an ordinary start-up and that no event has reported.
#[derive(Debug, Default)]
pub(crate) struct WithheldWarnings(Vec<String>);

/// Returns the events for a change of the conditions and a scaling change. Pure.
pub(crate) fn events(
    before: &[Condition],
    after: &[Condition],
    changed: Option<&DecisionStatus>,
    start: StartUp,
    withheld: &mut WithheldWarnings,
) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(change) = changed {
        events.push(event(EventType::Normal, &change.reason, "Scale", &change.message));
    }
    for condition in after {
        let old = before.iter().find(|old| old.type_ == condition.type_);
        let was_withheld = withheld.0.contains(&condition.type_);
        let flipped = old.is_none_or(|old| old.status != condition.status || old.reason != condition.reason);
        if (flipped || was_withheld) && start.explains(condition, old) {
            if !was_withheld {
                withheld.0.push(condition.type_.clone());
            }
            continue;
        }
        withheld.0.retain(|kind| *kind != condition.type_);
        // A withheld condition was never reported, so it counts as new.
        let (old, flipped) = if was_withheld { (None, true) } else { (old, flipped) };
        let is_bad = |condition: &Condition, bad: &str| {
            let notable = [reasons::STRANGERS_IN_GROUP, reasons::TARGET_CONTESTED, reasons::SHARED_CONSUMER_GROUP];
            condition.status == bad && condition.type_ != SCALING_ACTIVE
                || condition.reason == reasons::FOREIGN_WRITER
                || notable.contains(&condition.reason.as_str())
        };
        let (bad, watched) = match condition.type_.as_str() {
            READY | METRICS_AVAILABLE => ("False", true),
            // The user asked for Pinned, Recommend and Suspended, so they are not events.
            SCALING_ACTIVE => ("", is_bad(condition, "")),
            SCALING_LIMITED | STALLED => ("True", true),
            _ => ("", false),
        };
        if !flipped || !watched {
            continue;
        }
        if is_bad(condition, bad) {
            events.push(event(EventType::Warning, &condition.reason, "Observe", &condition.message));
        } else if old.is_some_and(|old| is_bad(old, bad)) {
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

/// Publishes events in the background, so that a slow API server does not delay reconciles.
pub(crate) fn publish(recorder: &Recorder, object: &StreamJob, events: Vec<Event>) {
    if events.is_empty() {
        return;
    }
    let (recorder, reference) = (recorder.clone(), object.object_ref(&()));
    tokio::spawn(async move {
        for event in events {
            let published =
                tokio::time::timeout(crate::lease::WRITE_TIMEOUT, recorder.publish(&event, &reference)).await;
            if let Ok(Err(error)) = published {
                tracing::warn!(error = %error, reason = %event.reason, "failed to publish an event");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    /// Returns types and reasons of the events for a sequence of conditions, each during an ordinary start-up or after
    /// it.
    fn events_for(walk: &[(bool, &[Condition])]) -> Vec<String> {
        let (mut withheld, mut before, mut all) = (WithheldWarnings::default(), Vec::new(), Vec::new());
        for (starts, after) in walk {
            let start = StartUp { workers: *starts, signals: *starts };
            let emitted = events(&before, after, None, start, &mut withheld);
            all.extend(emitted.iter().map(|event| format!("{:?} {}", event.type_, event.reason)));
            before = after.to_vec();
        }
        all
    }

    #[test]
    fn ordinary_start_up_emits_no_warning() {
        let begin = [condition(READY, "False", "NoReadyWorkers"), condition(METRICS_AVAILABLE, "False", "NoSignal")];
        let good = [condition(READY, "True", "Ready"), condition(METRICS_AVAILABLE, "True", "Fresh")];
        assert_eq!(events_for(&[(true, &begin), (true, &begin), (false, &good)]), [""; 0]);
        // A job that wakes up starts in the same way.
        let asleep = [condition(READY, "True", "Asleep"), good[1].clone()];
        let wakes = [begin[0].clone(), good[1].clone()];
        assert_eq!(events_for(&[(false, &asleep), (true, &wakes), (true, &good)]), [""; 0]);
    }

    #[test]
    fn slow_start_up_and_its_end_are_reported_once() {
        let begin = [condition(READY, "False", "NoReadyWorkers"), condition(METRICS_AVAILABLE, "False", "NoSignal")];
        let good = [condition(READY, "True", "Ready"), condition(METRICS_AVAILABLE, "True", "Fresh")];
        let walk: [(bool, &[Condition]); 5] =
            [(true, &begin), (false, &begin), (false, &begin), (false, &good), (false, &good)];
        assert_eq!(events_for(&walk), ["Warning NoReadyWorkers", "Warning NoSignal", "Normal Ready", "Normal Fresh"]);
    }

    #[test]
    fn failure_during_start_up_is_reported_at_once() {
        let refused =
            [condition(READY, "False", "SourceUnreachable"), condition(METRICS_AVAILABLE, "False", "StaleSignal")];
        assert_eq!(events_for(&[(true, &refused)]), ["Warning SourceUnreachable", "Warning StaleSignal"]);
        // A job whose workers have disappeared is not starting up, although the pods that replace them are new.
        let good = [condition(READY, "True", "Ready")];
        let gone = [condition(READY, "False", "NoReadyWorkers")];
        assert_eq!(events_for(&[(false, &good), (true, &gone)]), ["Warning NoReadyWorkers"]);
    }

    #[test]
    fn strangers_are_reported_when_they_come_and_when_they_go() {
        let fresh = [condition(METRICS_AVAILABLE, "True", "Fresh")];
        let strangers = [condition(METRICS_AVAILABLE, "True", "StrangersInGroup")];
        let walk: [(bool, &[Condition]); 4] =
            [(false, &fresh), (false, &strangers), (false, &strangers), (false, &fresh)];
        assert_eq!(events_for(&walk), ["Warning StrangersInGroup", "Normal Fresh"]);
    }
}
