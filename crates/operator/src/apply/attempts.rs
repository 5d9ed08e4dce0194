//! Back-off of failed requests to the API server. Pure: time is an argument.
//!
//! A job is reconciled with every sample, up to twice a second. A request that has failed is not repeated at that rate:
//! it waits until its body changes, or until a back-off has passed that grows with each failure, whatever triggers the
//! reconcile. Each namespace has a budget of refusals, so that 500 jobs beyond one quota cost no more requests than a
//! few.
//!
//! Architecture invariant: a request to the API server that has failed is not repeated at the rate of the samples.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;

use crate::cause::ConditionCause;
use crate::error::Error;

/// Number of consecutive failures after which a different body no longer ends the back-off.
const PATIENCE: u32 = 3;

/// A new spec ends the back-off if the last attempt is at least this old.
const NEW_SPEC_GAP: Seconds = Seconds(5.0);

/// Maximum back-off after a refusal.
const MAX_BACK_OFF: Duration = Duration::from_mins(5);

/// Maximum back-off if the request was not refused: the API server did not answer, or sent Retry-After.
const MAX_BACK_OFF_UNANSWERED: Duration = Duration::from_mins(1);

/// Minimum back-off of a read of a target, which is several requests of up to some seconds.
const TARGET_RETRY: Duration = Duration::from_secs(10);

/// Budget of refusals of a namespace.
const NAMESPACE_BURST: f64 = 20.0;

/// Refusals per minute by which the budget recovers.
const NAMESPACE_PER_MINUTE: f64 = 5.0;

/// The kinds of requests to the API server for a job. Each has its own back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Reads the workload of a `targetRef`, and its pods.
    Target,
    /// Creates or applies the workload of the job.
    Workload,
    /// Applies the processing file.
    Processing,
    /// Writes the replica count.
    Scale,
    /// Writes the status.
    Status,
}

const REQUESTS: usize = 5;

/// Identifies a request: a different body, or a different spec behind it, is a different request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestKey {
    /// Generation of the job's spec, and the value of the annotation that `sluice resume` writes.
    pub(crate) spec: (Option<i64>, Option<String>),
    /// Identifies the body and the state of the object that it is for.
    pub(crate) body: String,
}

/// The failed requests of one job.
#[derive(Debug, Default)]
pub(crate) struct Attempts([Option<Failures>; REQUESTS]);

/// Consecutive failures of one request.
#[derive(Debug)]
struct Failures {
    request_key: RequestKey,
    count: u32,
    last: Seconds,
    not_before: Seconds,
    newest: Failure,
}

/// Why a request has failed.
#[derive(Debug)]
struct Failure {
    /// The request was sent; otherwise an object that was read prevented it.
    was_sent: bool,
    /// The API server sent Retry-After, which applies to all requests for the job.
    has_retry_after: bool,
    /// The API server has refused the request, and would refuse it again.
    refused: bool,
    cause: ConditionCause,
}

impl Attempts {
    /// Returns whether the request must wait.
    pub(crate) fn must_wait(&self, request: Request, request_key: &RequestKey, now: Seconds) -> bool {
        let waits_for_all = |failures: &Failures| failures.newest.has_retry_after && now < failures.not_before;
        let all_wait = self.0.iter().flatten().any(waits_for_all);
        all_wait
            || self.get(request).is_some_and(|failures| {
                let is_new_spec = failures.request_key.spec != request_key.spec && now - failures.last >= NEW_SPEC_GAP;
                let may_differ = failures.count < PATIENCE || !failures.newest.was_sent;
                let is_new_body = failures.request_key.body != request_key.body && may_differ;
                now < failures.not_before && !is_new_spec && !is_new_body
            })
    }

    /// Records that the request has failed.
    pub(crate) fn record_failure(&mut self, request: Request, request_key: RequestKey, error: &Error, now: Seconds) {
        let wait = back_off(request, error, self.count(request));
        let failure = Failure {
            was_sent: true,
            refused: error.is_refusal(),
            has_retry_after: error.server_retry_after().is_some(),
            cause: ConditionCause { reason: reason(request, error), message: message(request, error) },
        };
        self.record(request, request_key, failure, wait, now);
    }

    /// Records that an object that was read prevented the request, such as a name that is taken.
    pub(crate) fn record_hindrance(
        &mut self,
        request: Request,
        request_key: RequestKey,
        cause: ConditionCause,
        now: Seconds,
    ) {
        let wait = doubled(Duration::from_secs(1), self.count(request)).min(MAX_BACK_OFF_UNANSWERED);
        self.record(
            request,
            request_key,
            Failure { was_sent: false, refused: false, has_retry_after: false, cause },
            wait,
            now,
        );
    }

    /// Records that the request has succeeded.
    pub(crate) fn record_success(&mut self, request: Request) {
        if let Some(failures) = self.0.get_mut(request as usize) {
            *failures = None;
        }
    }

    /// Records that the request is not needed now. A failure is remembered until its back-off has passed, because the
    /// next decision may need the same request.
    pub(crate) fn record_not_needed(&mut self, request: Request, now: Seconds) {
        if self.get(request).is_some_and(|failures| now >= failures.not_before) {
            self.record_success(request);
        }
    }

    /// Forgets the requests for a workload that the job no longer names.
    pub(crate) fn forget_workload(&mut self) {
        for request in [Request::Target, Request::Workload, Request::Processing, Request::Scale] {
            self.record_success(request);
        }
    }

    /// Returns whether the API server refused the last attempt.
    pub(crate) fn was_refused(&self, request: Request) -> bool {
        self.get(request).is_some_and(|failures| failures.newest.refused)
    }

    /// Returns the cause that the status reports: at once if the user must act, otherwise after `PATIENCE` failures.
    pub(crate) fn cause(&self) -> Option<&ConditionCause> {
        // The status cannot report that the status cannot be written.
        let reported = [Request::Target, Request::Workload, Request::Scale, Request::Processing];
        reported.into_iter().filter_map(|request| self.get(request)).find_map(|failures| {
            let at_once = failures.newest.cause.reason != reasons::API_ERROR;
            (at_once || failures.count >= PATIENCE).then_some(&failures.newest.cause)
        })
    }

    /// Returns the time until the next back-off ends. A request whose back-off has ended is left to the next reconcile:
    /// its namespace may have no budget, or the request is not needed.
    pub(crate) fn next_retry(&self, now: Seconds) -> Option<Duration> {
        let waits = self.0.iter().flatten().map(|failures| (failures.not_before - now).0).filter(|wait| *wait > 0.0);
        waits.min_by(f64::total_cmp).map(Duration::from_secs_f64)
    }

    fn get(&self, request: Request) -> Option<&Failures> {
        self.0.get(request as usize)?.as_ref()
    }

    fn count(&self, request: Request) -> u32 {
        self.get(request).map_or(0, |failures| failures.count)
    }

    fn record(&mut self, request: Request, request_key: RequestKey, newest: Failure, wait: Duration, now: Seconds) {
        let count = self.count(request).saturating_add(1);
        let not_before = now + Seconds(wait.as_secs_f64());
        if let Some(failures) = self.0.get_mut(request as usize) {
            *failures = Some(Failures { request_key, count, last: now, not_before, newest });
        }
    }
}

/// Returns the back-off after a failure. `before`: consecutive failures before it.
fn back_off(request: Request, error: &Error, before: u32) -> Duration {
    let wait = match error.category() {
        "conflict" => doubled(Duration::from_millis(100), before).min(MAX_BACK_OFF_UNANSWERED),
        _ if error.is_refusal() => match before {
            0 => Duration::from_secs(1),
            1 => Duration::from_secs(5),
            // It may be a temporary problem of the API server.
            _ if error.category() == "api" => MAX_BACK_OFF_UNANSWERED,
            _ => doubled(Duration::from_mins(1), before - 2).min(MAX_BACK_OFF),
        },
        _ => doubled(Duration::from_secs(1), before).min(MAX_BACK_OFF_UNANSWERED),
    };
    let least = if request == Request::Target { TARGET_RETRY } else { Duration::ZERO };
    error.server_retry_after().map_or(wait, |asked| asked.clamp(wait, MAX_BACK_OFF)).max(least)
}

/// Returns `first`, doubled `before` times.
fn doubled(first: Duration, before: u32) -> Duration {
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
    let answer = error.explanation();
    match (request, error.category()) {
        (Request::Target, "forbidden") => {
            format!(
                "{error}: {answer}; grant the operator the verb get on the kind, and get and patch on its scale subresource (extraRules in the values of the chart)"
            )
        }
        (_, "invalid" | "forbidden") => answer,
        (_, "timeout" | "not_leader") => error.to_string(),
        _ => format!("{error}: {answer}"),
    }
}

/// Budget of refusals of each namespace, as a token bucket. Cheap to clone; all clones share the counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamespaceRefusals(Arc<Mutex<HashMap<String, Bucket>>>);

/// Refusals that are left at a time.
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
    /// Spends one refusal of the namespace's budget. Returns false if none is left.
    pub(crate) fn try_spend(&self, namespace: &str, now: Seconds) -> bool {
        self.change(namespace, now, -1.0)
    }

    /// Returns the refusal that a request has spent that was not refused.
    pub(crate) fn refund(&self, namespace: &str, now: Seconds) {
        self.change(namespace, now, 1.0);
    }

    /// Changes the budget by `by`, unless it would become negative.
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

    fn request_key(generation: i64, body: &str) -> RequestKey {
        RequestKey { spec: (Some(generation), None), body: body.to_owned() }
    }

    fn answer(code: u16, retry_after: u32) -> Error {
        let reason = if code == 403 { "Forbidden" } else { "" };
        let details = serde_json::json!({"retryAfterSeconds": retry_after});
        let status = serde_json::json!({"status": "Failure", "code": code, "message": "no", "reason": reason, "details": details});
        let status = serde_json::from_value(status).unwrap();
        Error::Api { verb: "apply the workload", source: kube::Error::Api(status) }
    }

    /// Returns the times, in seconds, at which a request is made that always fails and is tried twice a second.
    fn attempts(error: &Error, seconds: u32, what: impl Fn(f64) -> RequestKey) -> Vec<f64> {
        let mut attempts = Attempts::default();
        let mut made = Vec::new();
        for half in 0..seconds * 2 {
            let now = f64::from(half) / 2.0;
            if !attempts.must_wait(Request::Workload, &what(now), Seconds(now)) {
                made.push(now);
                attempts.record_failure(Request::Workload, what(now), error, Seconds(now));
            }
        }
        made
    }

    #[test]
    fn refused_request_backs_off_whatever_triggers_it() {
        let made = attempts(&answer(403, 0), 1200, |_| request_key(1, "a"));
        assert_eq!(made, [0.0, 1.0, 6.0, 66.0, 186.0, 426.0, 726.0, 1026.0]);
    }

    #[test]
    fn changed_body_ends_the_back_off_three_times_at_most() {
        let made = attempts(&answer(422, 0), 60, |now| request_key(1, &now.to_string()));
        assert_eq!(made, [0.0, 0.5, 1.0], "a replica count that changes with each sample");
        let made = attempts(&answer(422, 0), 60, |now| request_key(i64::from(now >= 20.0), "a"));
        assert_eq!(made, [0.0, 1.0, 6.0, 20.0], "a corrected spec");
    }

    #[test]
    fn retry_after_applies_to_every_trigger() {
        let made = attempts(&answer(429, 30), 60, |now| request_key(if now < 9.0 { 1 } else { 2 }, &now.to_string()));
        assert_eq!(made, [0.0, 30.0]);
        let mut attempts = Attempts::default();
        attempts.record_failure(Request::Scale, request_key(1, ""), &answer(429, 7), Seconds(0.0));
        assert!(
            attempts.must_wait(Request::Status, &request_key(2, ""), Seconds(6.0)),
            "Retry-After applies to all requests"
        );
    }

    #[test]
    fn unanswered_request_is_retried_within_a_minute() {
        let error = Error::Timeout { verb: "apply the workload", timeout: Duration::from_secs(5) };
        let made = attempts(&error, 600, |_| request_key(1, "a"));
        assert!(made.windows(2).all(|pair| pair[1] - pair[0] <= 60.0) && made.len() > 10, "{made:?}");
    }

    /// A job beyond its namespace's budget was reconciled ten times a second.
    #[test]
    fn ended_back_off_triggers_no_reconcile() {
        let mut attempts = Attempts::default();
        attempts.record_failure(Request::Workload, request_key(1, "a"), &answer(403, 0), Seconds(0.0));
        assert_eq!(attempts.next_retry(Seconds(0.0)), Some(Duration::from_secs(1)));
        assert_eq!((attempts.next_retry(Seconds(1.0)), attempts.next_retry(Seconds(500.0))), (None, None));
    }

    #[test]
    fn hindered_request_is_sent_once_the_hindrance_has_changed() {
        let mut attempts = Attempts::default();
        for second in 0..9 {
            let cause = ConditionCause { reason: reasons::WORKLOAD_TERMINATING, message: String::new() };
            attempts.record_hindrance(Request::Workload, request_key(1, "a"), cause, Seconds(f64::from(second)));
        }
        assert!(attempts.must_wait(Request::Workload, &request_key(1, "a"), Seconds(9.0)));
        assert!(!attempts.must_wait(Request::Workload, &request_key(1, "b"), Seconds(9.0)), "the workload is gone");
    }

    #[test]
    fn failure_is_reported_at_once_only_if_the_user_must_act() {
        let reported = |error: &Error, times: u32| {
            let mut attempts = Attempts::default();
            for time in 0..times {
                attempts.record_failure(Request::Workload, request_key(1, "a"), error, Seconds(f64::from(time)));
            }
            attempts.cause().map(|cause| cause.reason)
        };
        assert_eq!(reported(&answer(403, 0), 1), Some(reasons::WORKLOAD_REJECTED));
        assert_eq!((reported(&answer(500, 0), 2), reported(&answer(500, 0), 3)), (None, Some(reasons::API_ERROR)));
        let mut attempts = Attempts::default();
        attempts.record_failure(Request::Target, request_key(1, ""), &answer(403, 0), Seconds(0.0));
        let cause = attempts.cause().unwrap();
        assert_eq!(cause.reason, reasons::TARGET_FORBIDDEN);
        assert!(cause.message.contains("extraRules"), "{}", cause.message);
        attempts.record_success(Request::Target);
        assert_eq!(attempts.cause(), None);
    }

    #[test]
    fn each_namespace_has_its_own_budget_of_refusals() {
        let refusals = NamespaceRefusals::default();
        let spend = |namespace: &str, now: f64| {
            let mut spent = 0;
            while refusals.try_spend(namespace, Seconds(now)) {
                spent += 1;
            }
            spent
        };
        assert_eq!((spend("a", 0.0), spend("a", 1.0), spend("b", 1.0)), (20, 0, 20));
        assert_eq!(spend("a", 61.0), 5);
        assert_eq!(spend("a", 1000.0), 20);
        refusals.refund("a", Seconds(1000.0));
        assert_eq!(spend("a", 1000.0), 1, "a request that was not refused costs nothing");
    }
}
