//! The context in which a sample of a partition is read, and what it then shows.

use super::evidence::Bracket;

/// What is known about the reader of a partition now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A worker may be reading it.
    Possible,
    /// A worker that reports to be busy reads it.
    Busy,
    /// There is no worker: records that are not committed are not processed.
    Absent,
}

/// The context in which a sample is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadWith {
    pub(crate) now: f64,
    /// The objective's latency, seconds.
    pub(crate) latency: f64,
    /// Time within which a reader commits, seconds, if known.
    pub(crate) commit_interval: Option<f64>,
    /// The workers' counters prove that they keep up, whatever the commits show.
    pub(crate) workers_keep_up: bool,
    /// When the owner's metrics page was read.
    pub(crate) position_at: Option<f64>,
    /// When the owner was last seen to have spare time.
    pub(crate) idle_at: Option<f64>,
    /// State of the partition's reader.
    pub(crate) reader: Reader,
    /// Whether a group without a commit starts at the beginning of the log.
    pub(crate) starts_at_earliest: Option<bool>,
    /// Whether transaction markers were seen in this job before.
    pub(crate) transactional: bool,
}

/// What one sample of a partition shows.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(crate) struct Reading {
    /// When it was sampled.
    pub(crate) at: f64,
    /// One or two records seem to wait, and are taken for transaction markers.
    pub(crate) markers: bool,
    /// Best estimate of the next unprocessed offset.
    pub(crate) guess: f64,
    /// Age of the oldest unprocessed record, seconds.
    pub(crate) age: Bracket,
    /// Unprocessed records.
    pub(crate) queue: Bracket,
    /// Records wait, as far as is known.
    pub(crate) waits: bool,
    /// Records certainly wait: not only because no commit is known.
    pub(crate) waits_for_sure: bool,
    /// The position comes from the worker.
    pub(crate) positioned: bool,
    /// Neither a commit nor a position is known.
    pub(crate) unknown_position: bool,
    /// End offset at the sample's time minus the objective's latency: everything below it is due.
    pub(crate) due: Option<i64>,
    /// Progress since the last observation, records.
    pub(crate) progress: f64,
    /// How long the records of a commit that was just seen had waited for it at most, seconds.
    pub(crate) commit_gap: Option<f64>,
    /// Records by which the commit is past the end of the log.
    pub(crate) ahead: Option<f64>,
    /// A pause between two owners that ended with this observation, seconds.
    pub(crate) pause: Option<f64>,
    /// Whether the offsets started over.
    pub(crate) restarted: bool,
    /// Records hidden by an open transaction, if the log has not grown because of it.
    pub(crate) hidden: Option<f64>,
}
