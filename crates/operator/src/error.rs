//! What can go wrong at the Kubernetes edge, and when to try again.

use std::time::Duration;

use crate::status::signals::Verdict;

/// Why a reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer in time.
    #[error("failed to {verb}: the API server did not answer within {} s", timeout.as_secs())]
    Timeout {
        /// What was tried.
        verb: &'static str,
        /// How long was waited.
        timeout: Duration,
    },
    /// The API server answered with an error, or could not be reached.
    #[error("failed to {verb}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// What it said.
        #[source]
        source: kube::Error,
    },
    /// This process does not lead (any more), so it writes nothing.
    #[error("failed to {verb}: this replica is not the leader")]
    NotLeader {
        /// What was tried.
        verb: &'static str,
    },
    /// The StreamJob is gone, or another has taken its name; the watch has not told yet.
    #[error("the StreamJob is not there any more; nothing is made for it")]
    Gone,
    /// A StreamJob that cannot be read at all: the definition in the cluster is of another version.
    #[error("failed to read the StreamJob: {0}")]
    Unreadable(String),
}

impl Error {
    /// The kind of error: a metric label, and what the requeue depends on.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::NotLeader { .. } => "not_leader",
            Self::Unreadable(_) => "unreadable",
            Self::Gone => "gone",
            Self::Api { source, .. } => match status(source) {
                Some(status) if status.is_not_found() => "not_found",
                Some(status) if status.is_conflict() => "conflict",
                Some(status) if status.is_forbidden() => "forbidden",
                Some(status) if status.is_invalid() => "invalid",
                Some(status) if status.code == 400 => "invalid",
                Some(status) if status.code == 429 => "throttled",
                Some(_) => "api",
                None => "connection",
            },
        }
    }

    /// The other writer, when the API server refused a write because a field has another manager.
    pub(crate) fn field_manager(&self) -> Option<String> {
        let Self::Api { source, .. } = self else { return None };
        let causes = &status(source)?.details.as_ref()?.causes;
        let conflict = causes.iter().find(|cause| cause.reason == "FieldManagerConflict")?;
        // conflict with "kubectl" using apps/v1
        let name = conflict.message.split('"').nth(1).unwrap_or("another manager");
        Some(name.chars().take(128).collect())
    }

    /// The API server has understood the request, and refuses it: sent again as it is, it would be refused again. A webhook
    /// that cannot be called is answered with 500.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        status(source).is_some_and(|status| match status.code {
            404 | 409 | 429 => false,
            code => (400..=500).contains(&code),
        })
    }

    /// The HTTP code of the API server's answer.
    pub(crate) fn code(&self) -> Option<u16> {
        let Self::Api { source, .. } = self else { return None };
        status(source).map(|status| status.code)
    }

    /// How long the API server asks to stay away (Retry-After).
    pub(crate) fn asked_wait(&self) -> Option<Duration> {
        let Self::Api { source, .. } = self else { return None };
        let seconds = status(source)?.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    /// What the API server said, for a condition's message.
    pub(crate) fn explanation(&self) -> String {
        match self {
            Self::Api { source, .. } => {
                status(source).map_or_else(|| source.to_string(), |status| status.message.clone())
            }
            other => other.to_string(),
        }
    }
}

fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Why the workload is not as it should be.
#[derive(Debug)]
pub(crate) enum Refused {
    /// A person must do something; the condition Ready says what.
    Trouble(Verdict),
    /// It is tried again.
    Error(Error),
    /// It has failed before, and waits for another attempt.
    Waits,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How long to wait before the next try: an object that was changed by someone else is read again at once, everything
/// else waits longer each time, up to a minute.
pub(crate) fn retry_after(error: &Error, failures: u32) -> Duration {
    const LONGEST: Duration = Duration::from_mins(1);
    let base = match error.category() {
        "conflict" => Duration::from_millis(100),
        "unreadable" => return LONGEST * 5,
        _ => Duration::from_secs(1),
    };
    let wait = base.saturating_mul(1 << failures.min(6)).min(LONGEST);
    error.asked_wait().map_or(wait, |asked| asked.max(wait).min(LONGEST))
}
