//! When a request that has failed may be made again. Pure: time is an argument.
//!
//! A job is reconciled with every sample, up to twice a second. What the API server has refused is not sent that often: it waits
//! until what is asked for has changed, or a time has passed that grows with each failure, whatever wakes the job up. A namespace
//! as a whole may have only so many refusals: 500 jobs beyond one quota cost no more requests than a few.
//!
//! Architecture invariant: a request to the API server that has failed is not repeated at the pace of the samples.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;

use crate::error::Error;
use crate::status::signals::Verdict;

/// Failures in a row after which another body is no reason to try again.
const PATIENCE: u32 = 3;

/// A new spec is tried at once, unless the last attempt is more recent than this.
const NEW_SPEC_GAP: Seconds = Seconds(5.0);

/// Longest time between two attempts.
const LONGEST: Duration = Duration::from_mins(5);

/// Longest time between two attempts where nothing was refused: the API server did not answer, or asked for patience.
const LONGEST_UNANSWERED: Duration = Duration::from_mins(1);

/// Reads of a target wait for so long at least: they are several, and each may take seconds.
const TARGET_RETRY: Duration = Duration::from_secs(10);

/// Refusals that a namespace may have at once.
const NAMESPACE_BURST: f64 = 20.0;

/// And from then on, in a minute.
const NAMESPACE_PER_MINUTE: f64 = 5.0;

/// What is asked of the API server for a job; each waits for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Reads the workload of a `targetRef`, and its pods.
    Target,
    /// Creates or applies the workload of the job.
    Workload,
    /// Applies the processing file.
    Processing,
    /// Writes the number of workers.
    Scale,
    /// Writes the status.
    Status,
}

const REQUESTS: usize = 5;

/// What exactly is asked: another body, or another spec behind it, is another request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Generation of the job's spec, and what `sluice resume` has left on it.
    pub(crate) spec: (Option<i64>, Option<String>),
    /// What tells this body, and the state of the object that it is for, from others.
    pub(crate) body: String,
}

/// The failed requests of one job.
#[derive(Debug, Default)]
pub(crate) struct Attempts([Option<Failures>; REQUESTS]);

/// Failures of one request in a row.
#[derive(Debug)]
struct Failures {
    asked: Asked,
    count: u32,
    last: Seconds,
    not_before: Seconds,
    newest: Failure,
}

/// What a request has failed by.
#[derive(Debug)]
struct Failure {
    /// Something was sent; otherwise what was read was reason enough not to.
    was_sent: bool,
    /// The API server has said how long to wait (Retry-After): that holds for everything that is asked for the job.
    told_to_wait: bool,
    /// The API server has understood the request, and refused it.
    refused: bool,
    verdict: Verdict,
}

impl Attempts {
    /// Whether the request is to wait.
    pub(crate) fn waits(&self, request: Request, asked: &Asked, now: Seconds) -> bool {
        let told = |failures: &Failures| failures.newest.told_to_wait && now < failures.not_before;
        let all_wait = self.0.iter().flatten().any(told);
        all_wait
            || self.get(request).is_some_and(|failures| {
                let is_new_spec = failures.asked.spec != asked.spec && now - failures.last >= NEW_SPEC_GAP;
                let may_differ = failures.count < PATIENCE || !failures.newest.was_sent;
                let is_new_body = failures.asked.body != asked.body && may_differ;
                now < failures.not_before && !is_new_spec && !is_new_body
            })
    }

    /// The request has failed.
    pub(crate) fn failed(&mut self, request: Request, asked: Asked, error: &Error, now: Seconds) {
        let wait = wait(request, error, self.count(request));
        let failure = Failure {
            was_sent: true,
            refused: error.is_refusal(),
            told_to_wait: error.asked_wait().is_some(),
            verdict: Verdict { reason: reason(request, error), message: message(request, error) },
        };
        self.note(request, asked, failure, wait, now);
    }

    /// What was read keeps the request from being made, such as a name that is taken.
    pub(crate) fn hindered(&mut self, request: Request, asked: Asked, verdict: Verdict, now: Seconds) {
        let wait = growing(Duration::from_secs(1), self.count(request)).min(LONGEST_UNANSWERED);
        self.note(request, asked, Failure { was_sent: false, refused: false, told_to_wait: false, verdict }, wait, now);
    }

    /// The request has succeeded.
    pub(crate) fn succeeded(&mut self, request: Request) {
        if let Some(failures) = self.0.get_mut(request as usize) {
            *failures = None;
        }
    }

    /// The request need not be made now. What has failed lately is remembered all the same: the next decision may ask for it.
    pub(crate) fn not_needed(&mut self, request: Request, now: Seconds) {
        if self.get(request).is_some_and(|failures| now >= failures.not_before) {
            self.succeeded(request);
        }
    }

    /// Forgets what was asked for a workload that the job does not name any more.
    pub(crate) fn forget_workload(&mut self) {
        for request in [Request::Target, Request::Workload, Request::Processing, Request::Scale] {
            self.succeeded(request);
        }
    }

    /// Whether the last attempt was refused by the API server.
    pub(crate) fn was_refused(&self, request: Request) -> bool {
        self.get(request).is_some_and(|failures| failures.newest.refused)
    }

    /// What a person is to know: at once where somebody must act, or what has not passed by itself.
    pub(crate) fn trouble(&self) -> Option<&Verdict> {
        // Whether the status can be written is nothing that the status could say.
        let said = [Request::Target, Request::Workload, Request::Scale, Request::Processing];
        said.into_iter().filter_map(|request| self.get(request)).find_map(|failures| {
            let at_once = failures.newest.verdict.reason != reasons::API_ERROR;
            (at_once || failures.count >= PATIENCE).then_some(&failures.newest.verdict)
        })
    }

    /// How long until the next request may be made again. What could be made now and was not is left to the next look at the job:
    /// its namespace may have no refusal left, or it is not needed.
    pub(crate) fn next(&self, now: Seconds) -> Option<Duration> {
        let waits = self.0.iter().flatten().map(|failures| (failures.not_before - now).0).filter(|wait| *wait > 0.0);
        waits.min_by(f64::total_cmp).map(Duration::from_secs_f64)
    }

    fn get(&self, request: Request) -> Option<&Failures> {
        self.0.get(request as usize)?.as_ref()
    }

    fn count(&self, request: Request) -> u32 {
        self.get(request).map_or(0, |failures| failures.count)
    }

    fn note(&mut self, request: Request, asked: Asked, newest: Failure, wait: Duration, now: Seconds) {
        let count = self.count(request).saturating_add(1);
        let not_before = now + Seconds(wait.as_secs_f64());
        if let Some(failures) = self.0.get_mut(request as usize) {
            *failures = Some(Failures { asked, count, last: now, not_before, newest });
        }
    }
}

/// How long to wait after a failure; `before`: failures in a row before it.
fn wait(request: Request, error: &Error, before: u32) -> Duration {
    let wait = match error.category() {
        "conflict" => growing(Duration::from_millis(100), before).min(LONGEST_UNANSWERED),
        _ if error.is_refusal() => match before {
            0 => Duration::from_secs(1),
            1 => Duration::from_secs(5),
            // It may be the API server's own trouble, which passes.
            _ if error.category() == "api" => LONGEST_UNANSWERED,
            _ => growing(Duration::from_mins(1), before - 2).min(LONGEST),
        },
        _ => growing(Duration::from_secs(1), before).min(LONGEST_UNANSWERED),
    };
    let least = if request == Request::Target { TARGET_RETRY } else { Duration::ZERO };
    error.asked_wait().map_or(wait, |asked| asked.clamp(wait, LONGEST)).max(least)
}

fn growing(first: Duration, before: u32) -> Duration {
    first.saturating_mul(1 << before.min(12))
}

fn reason(request: Request, error: &Error) -> &'static str {
    match (request, error.category()) {
        (Request::Target, "forbidden") => reasons::TARGET_FORBIDDEN,
        (_, "invalid" | "forbidden") => reasons::WORKLOAD_REJECTED,
        _ => reasons::API_ERROR,
    }
}

fn message(request: Request, error: &Error) -> String {
    let said = error.explanation();
    match (request, error.category()) {
        (Request::Target, "forbidden") => {
            format!(
                "{error}: {said}; grant the operator the verb get on the kind, and get and patch on its scale subresource (extraRules in the values of the chart)"
            )
        }
        (_, "invalid" | "forbidden") => said,
        (_, "timeout" | "not_leader") => error.to_string(),
        _ => format!("{error}: {said}"),
    }
}

/// How many refusals each namespace has had lately. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamespaceRefusals(Arc<Mutex<HashMap<String, Bucket>>>);

/// Refusals that are left, as of a time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Seconds,
}

impl Bucket {
    fn left(self, now: Seconds) -> f64 {
        (self.left + (now - self.at).0.max(0.0) * NAMESPACE_PER_MINUTE / 60.0).min(NAMESPACE_BURST)
    }
}

impl NamespaceRefusals {
    /// Takes leave for a request that was refused before; `false`: the namespace has had its refusals.
    pub(crate) fn take(&self, namespace: &str, now: Seconds) -> bool {
        self.change(namespace, now, -1.0)
    }

    /// The request was not refused after all.
    pub(crate) fn give_back(&self, namespace: &str, now: Seconds) {
        self.change(namespace, now, 1.0);
    }

    /// What is left changes by so much, unless nothing is left to take from.
    fn change(&self, namespace: &str, now: Seconds, by: f64) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|_, bucket| bucket.left(now) < NAMESPACE_BURST);
        let left = buckets.get(namespace).map_or(NAMESPACE_BURST, |bucket| bucket.left(now));
        let is_left = left + by >= 0.0;
        if is_left {
            buckets.insert(namespace.to_owned(), Bucket { left: left + by, at: now });
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(generation: i64, body: &str) -> Asked {
        Asked { spec: (Some(generation), None), body: body.to_owned() }
    }

    fn answer(code: u16, retry_after: u32) -> Error {
        let reason = if code == 403 { "Forbidden" } else { "" };
        let details = serde_json::json!({"retryAfterSeconds": retry_after});
        let status = serde_json::json!({"status": "Failure", "code": code, "message": "no", "reason": reason, "details": details});
        let status = serde_json::from_value(status).unwrap();
        Error::Api { verb: "apply the workload", source: kube::Error::Api(status) }
    }

    /// The times, in seconds, at which a request is made that always fails, if it is tried twice a second.
    fn attempts(error: &Error, seconds: u32, what: impl Fn(f64) -> Asked) -> Vec<f64> {
        let mut attempts = Attempts::default();
        let mut made = Vec::new();
        for half in 0..seconds * 2 {
            let now = f64::from(half) / 2.0;
            if !attempts.waits(Request::Workload, &what(now), Seconds(now)) {
                made.push(now);
                attempts.failed(Request::Workload, what(now), error, Seconds(now));
            }
        }
        made
    }

    #[test]
    fn what_is_refused_is_sent_ever_more_seldom_whatever_wakes_the_job_up() {
        let made = attempts(&answer(403, 0), 1200, |_| asked(1, "a"));
        assert_eq!(made, [0.0, 1.0, 6.0, 66.0, 186.0, 426.0, 726.0, 1026.0]);
    }

    #[test]
    fn another_body_is_tried_at_once_but_not_for_ever() {
        let made = attempts(&answer(422, 0), 60, |now| asked(1, &now.to_string()));
        assert_eq!(made, [0.0, 0.5, 1.0], "a number that changes with each sample");
        let made = attempts(&answer(422, 0), 60, |now| asked(i64::from(now >= 20.0), "a"));
        assert_eq!(made, [0.0, 1.0, 6.0, 20.0], "a spec that somebody has mended");
    }

    #[test]
    fn what_the_api_server_asks_for_holds_against_every_trigger() {
        let made = attempts(&answer(429, 30), 60, |now| asked(if now < 9.0 { 1 } else { 2 }, &now.to_string()));
        assert_eq!(made, [0.0, 30.0]);
        let mut attempts = Attempts::default();
        attempts.failed(Request::Scale, asked(1, ""), &answer(429, 7), Seconds(0.0));
        assert!(attempts.waits(Request::Status, &asked(2, ""), Seconds(6.0)), "for anything");
    }

    #[test]
    fn an_api_server_that_was_away_is_asked_again_within_a_minute() {
        let error = Error::Timeout { verb: "apply the workload", timeout: Duration::from_secs(5) };
        let made = attempts(&error, 600, |_| asked(1, "a"));
        assert!(made.windows(2).all(|pair| pair[1] - pair[0] <= 60.0) && made.len() > 10, "{made:?}");
    }

    /// A job beyond its namespace's budget was looked at ten times a second.
    #[test]
    fn what_may_be_tried_again_already_wakes_nobody() {
        let mut attempts = Attempts::default();
        attempts.failed(Request::Workload, asked(1, "a"), &answer(403, 0), Seconds(0.0));
        assert_eq!(attempts.next(Seconds(0.0)), Some(Duration::from_secs(1)));
        assert_eq!((attempts.next(Seconds(1.0)), attempts.next(Seconds(500.0))), (None, None));
    }

    #[test]
    fn what_was_never_sent_may_be_as_soon_as_what_is_there_has_changed() {
        let mut attempts = Attempts::default();
        for second in 0..9 {
            let verdict = Verdict { reason: reasons::WORKLOAD_TERMINATING, message: String::new() };
            attempts.hindered(Request::Workload, asked(1, "a"), verdict, Seconds(f64::from(second)));
        }
        assert!(attempts.waits(Request::Workload, &asked(1, "a"), Seconds(9.0)));
        assert!(!attempts.waits(Request::Workload, &asked(1, "b"), Seconds(9.0)), "its end");
    }

    #[test]
    fn a_failure_is_told_at_once_where_a_person_must_act_and_otherwise_if_it_stays() {
        let told = |error: &Error, times: u32| {
            let mut attempts = Attempts::default();
            for time in 0..times {
                attempts.failed(Request::Workload, asked(1, "a"), error, Seconds(f64::from(time)));
            }
            attempts.trouble().map(|verdict| verdict.reason)
        };
        assert_eq!(told(&answer(403, 0), 1), Some(reasons::WORKLOAD_REJECTED));
        assert_eq!((told(&answer(500, 0), 2), told(&answer(500, 0), 3)), (None, Some(reasons::API_ERROR)));
        let mut attempts = Attempts::default();
        attempts.failed(Request::Target, asked(1, ""), &answer(403, 0), Seconds(0.0));
        let told = attempts.trouble().unwrap();
        assert_eq!(told.reason, reasons::TARGET_FORBIDDEN);
        assert!(told.message.contains("extraRules"), "{}", told.message);
        attempts.succeeded(Request::Target);
        assert_eq!(attempts.trouble(), None);
    }

    #[test]
    fn a_namespace_has_a_budget_of_refusals_and_others_have_theirs() {
        let refusals = NamespaceRefusals::default();
        let spend = |namespace: &str, now: f64| {
            let mut spent = 0;
            while refusals.take(namespace, Seconds(now)) {
                spent += 1;
            }
            spent
        };
        assert_eq!((spend("a", 0.0), spend("a", 1.0), spend("b", 1.0)), (20, 0, 20));
        assert_eq!(spend("a", 61.0), 5);
        assert_eq!(spend("a", 1000.0), 20);
        refusals.give_back("a", Seconds(1000.0));
        assert_eq!(spend("a", 1000.0), 1, "what was not refused costs nothing");
    }
}
