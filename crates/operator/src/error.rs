//! Errors of requests to the API server, and when to try again.

use std::time::Duration;

use crate::cause::ConditionCause;

/// Why a request to the API server, or a reconcile, has failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer in time.
    #[error("failed to {verb}: the API server did not answer within {} s", timeout.as_secs())]
    Timeout {
        /// Description of the request.
        verb: &'static str,
        /// Time after which the request was given up.
        timeout: Duration,
    },
    /// The API server answered with an error, or could not be reached.
    #[error("failed to {verb}")]
    Api {
        /// Description of the request.
        verb: &'static str,
        /// The answer, or the failure to get one.
        #[source]
        source: kube::Error,
    },
    /// This process is not, or no longer, the leader, so it writes nothing.
    #[error("failed to {verb}: this replica is not the leader")]
    NotLeader {
        /// Description of the request.
        verb: &'static str,
    },
    /// The StreamJob was deleted, or replaced by another of its name, and the watch has not reported it yet.
    #[error("the StreamJob no longer exists; not creating its workload")]
    Gone,
    /// The StreamJob cannot be decoded, as when the definition in the cluster is of another version.
    #[error("failed to decode the StreamJob: {0}")]
    Unreadable(String),
}

impl Error {
    /// Returns the category of the error: a metric label, on which the back-off depends, too.
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

    /// Returns the name of the other writer if the API server refused a write because another manager owns a field.
    pub(crate) fn field_manager(&self) -> Option<String> {
        let Self::Api { source, .. } = self else { return None };
        let causes = &status(source)?.details.as_ref()?.causes;
        let conflict = causes.iter().find(|cause| cause.reason == "FieldManagerConflict")?;
        // The message has the form: conflict with "kubectl" using apps/v1
        let name = conflict.message.split('"').nth(1).unwrap_or("another manager");
        Some(name.chars().take(128).collect())
    }

    /// Returns whether the API server has refused the request and would refuse it again. If a webhook cannot be called,
    /// the answer is 500, which counts as a refusal.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        status(source).is_some_and(|status| match status.code {
            404 | 409 | 429 => false,
            code => (400..=500).contains(&code),
        })
    }

    /// Returns the HTTP status code of the API server's answer.
    pub(crate) fn code(&self) -> Option<u16> {
        let Self::Api { source, .. } = self else { return None };
        status(source).map(|status| status.code)
    }

    /// Returns the time for which the API server asks the client to wait (Retry-After).
    pub(crate) fn server_retry_after(&self) -> Option<Duration> {
        let Self::Api { source, .. } = self else { return None };
        let seconds = status(source)?.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    /// Returns the API server's answer, for the message of a condition.
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

/// Why a step of a reconcile was not carried out.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// The cause that the condition Ready reports, such as a name that is taken.
    Cause(ConditionCause),
    /// A request has failed and will be tried again.
    Failed(Error),
    /// An earlier request has failed, and its back-off has not ended.
    BackingOff,
}

impl From<Error> for Blocked {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
