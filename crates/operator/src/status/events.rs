//! Events: one for each decision, and one for each change of a refusal. Best effort: a lost event fails nothing.
//!
//! That no worker is ready and no source was read yet is how every job begins. It is told once it has been so for too long.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder};

use sluice_api::StreamJob;
use sluice_api::conditions::{METRICS_AVAILABLE, READY, SCALING_ACTIVE, SCALING_LIMITED, STALLED, reasons};
use sluice_api::status::DecisionStatus;

/// The API server refuses a longer note.
const NOTE_BYTES: usize = 1000;

/// What an ordinary start explains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// That no worker is ready.
    pub(crate) workers: bool,
    /// That a source has not been read.
    pub(crate) signals: bool,
}

impl Start {
    fn explains(self, condition: &Condition, old: Option<&Condition>) -> bool {
        match condition.type_.as_str() {
            // Workers that were there and are gone are no start.
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

/// The types of the conditions that became bad in an ordinary start, of which no event has told.
#[derive(Debug, Default)]
pub(crate) struct Withheld(Vec<String>);

/// What there is to say. Pure.
pub(crate) fn events(
    before: &[Condition],
    after: &[Condition],
    changed: Option<&DecisionStatus>,
    start: Start,
    withheld: &mut Withheld,
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
        // Nobody was told of what was withheld.
        let (old, flipped) = if was_withheld { (None, true) } else { (old, flipped) };
        let is_bad = |condition: &Condition, bad: &str| {
            let told = [reasons::STRANGERS_IN_GROUP, reasons::TARGET_CONTESTED, reasons::SHARED_CONSUMER_GROUP];
            condition.status == bad && condition.type_ != SCALING_ACTIVE
                || condition.reason == reasons::FOREIGN_WRITER
                || told.contains(&condition.reason.as_str())
        };
        let (bad, watched) = match condition.type_.as_str() {
            READY | METRICS_AVAILABLE => ("False", true),
            // Pinned, Recommend and Suspended are what the user asked for, and no event.
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

/// Publishes in the background, so that a slow API server delays no reconcile.
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

    /// Types and reasons of the events that a walk through these conditions has, in an ordinary start or after it.
    fn told(walk: &[(bool, &[Condition])]) -> Vec<String> {
        let (mut withheld, mut before, mut all) = (Withheld::default(), Vec::new(), Vec::new());
        for (starts, after) in walk {
            let start = Start { workers: *starts, signals: *starts };
            let news = events(&before, after, None, start, &mut withheld);
            all.extend(news.iter().map(|event| format!("{:?} {}", event.type_, event.reason)));
            before = after.to_vec();
        }
        all
    }

    #[test]
    fn an_ordinary_start_has_no_warning() {
        let begin = [condition(READY, "False", "NoReadyWorkers"), condition(METRICS_AVAILABLE, "False", "NoSignal")];
        let good = [condition(READY, "True", "Ready"), condition(METRICS_AVAILABLE, "True", "Fresh")];
        assert_eq!(told(&[(true, &begin), (true, &begin), (false, &good)]), [""; 0]);
        // A job that wakes up begins in the same way.
        let asleep = [condition(READY, "True", "Asleep"), good[1].clone()];
        let wakes = [begin[0].clone(), good[1].clone()];
        assert_eq!(told(&[(false, &asleep), (true, &wakes), (true, &good)]), [""; 0]);
    }

    #[test]
    fn a_start_that_takes_too_long_is_told_once_and_its_end_too() {
        let begin = [condition(READY, "False", "NoReadyWorkers"), condition(METRICS_AVAILABLE, "False", "NoSignal")];
        let good = [condition(READY, "True", "Ready"), condition(METRICS_AVAILABLE, "True", "Fresh")];
        let walk: [(bool, &[Condition]); 5] =
            [(true, &begin), (false, &begin), (false, &begin), (false, &good), (false, &good)];
        assert_eq!(told(&walk), ["Warning NoReadyWorkers", "Warning NoSignal", "Normal Ready", "Normal Fresh"]);
    }

    #[test]
    fn a_failure_is_told_at_once() {
        let refused =
            [condition(READY, "False", "SourceUnreachable"), condition(METRICS_AVAILABLE, "False", "StaleSignal")];
        assert_eq!(told(&[(true, &refused)]), ["Warning SourceUnreachable", "Warning StaleSignal"]);
        // Workers that were there and are gone are no start, though those that replace them are new.
        let good = [condition(READY, "True", "Ready")];
        let gone = [condition(READY, "False", "NoReadyWorkers")];
        assert_eq!(told(&[(false, &good), (true, &gone)]), ["Warning NoReadyWorkers"]);
    }

    #[test]
    fn strangers_are_told_once_when_they_come_and_once_when_they_are_gone() {
        let fresh = [condition(METRICS_AVAILABLE, "True", "Fresh")];
        let strangers = [condition(METRICS_AVAILABLE, "True", "StrangersInGroup")];
        let walk: [(bool, &[Condition]); 4] =
            [(false, &fresh), (false, &strangers), (false, &strangers), (false, &fresh)];
        assert_eq!(told(&walk), ["Warning StrangersInGroup", "Normal Fresh"]);
    }
}
