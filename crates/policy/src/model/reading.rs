//! What a sample of a partition is read with, and what it then says.

use super::evidence::Bracket;

/// Who reads a partition now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Some worker may.
    Possible,
    /// A worker that says that it is working.
    Busy,
    /// There is no worker: what is not committed is not processed.
    Absent,
}

/// What a sample is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadWith {
    pub(crate) now: f64,
    /// The objective, seconds.
    pub(crate) latency: f64,
    /// Seconds within which a reader commits, if known.
    pub(crate) commit_interval: Option<f64>,
    /// The workers' counters prove that they keep up, whatever the commits say.
    pub(crate) workers_keep_up: bool,
    /// When the owner's page was read.
    pub(crate) position_at: Option<f64>,
    /// When the owner was last seen to have time to spare.
    pub(crate) idle_at: Option<f64>,
    /// Who reads it.
    pub(crate) reader: Reader,
    /// Where a group without a commit starts.
    pub(crate) starts_at_earliest: Option<bool>,
    /// Transaction markers were seen in this job before.
    pub(crate) transactional: bool,
}

/// One look at one partition.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // facts that hold or not, each on its own
pub(crate) struct Reading {
    /// When it was sampled.
    pub(crate) at: f64,
    /// One or two records seem to wait, and are taken for transaction markers.
    pub(crate) markers: bool,
    /// Best guess of the next unprocessed offset.
    pub(crate) guess: f64,
    /// Age of the oldest unprocessed record, seconds.
    pub(crate) age: Bracket,
    /// Records unprocessed.
    pub(crate) queue: Bracket,
    /// Records wait, as far as is known.
    pub(crate) waits: bool,
    /// Records wait for sure: not only because no commit is known.
    pub(crate) waits_for_sure: bool,
    /// The position comes from the worker.
    pub(crate) positioned: bool,
    /// No commit and no position: where the group stands is not known.
    pub(crate) unknown_position: bool,
    /// End offset a latency ago: everything below is due.
    pub(crate) due: Option<i64>,
    /// Progress since the last look, records.
    pub(crate) progress: f64,
    /// A commit that was seen now: seconds that its records waited for it, at most.
    pub(crate) commit_gap: Option<f64>,
    /// Records beyond the log's end that are said to be processed.
    pub(crate) ahead: Option<f64>,
    /// A pause between two owners that ended with this look, seconds.
    pub(crate) pause: Option<f64>,
    /// Offsets started over.
    pub(crate) restarted: bool,
    /// Records behind an open transaction that hides them, if the log has stood still because of it.
    pub(crate) hidden: Option<f64>,
}
