//! The cause of a bad condition.

/// Reason and message that a condition takes over. `reason` is one of [`reasons`](sluice_api::conditions::reasons).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConditionCause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}
