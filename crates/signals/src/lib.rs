//! The outside world -> samples: one file for each kind of source, one for the workers' metrics, and the hub that runs
//! them in the background.
//!
//! Architecture invariant: only this room talks to sources.
//!
//! Architecture invariant: unknown is not zero. What could not be read is `None` with a reason, and an old sample keeps
//! its own time.

pub mod dial;
pub mod egress;
pub mod hub;
pub mod kafka;
pub mod limits;
mod names;
pub mod sample;
pub mod scrape;
pub mod source;
pub mod text;
mod tunnel;

pub use egress::Egress;
pub use hub::{Hub, HubStats, Signals, Threads};
pub use kafka::KafkaConnect;
pub use limits::Limits;
pub use sample::{
    Category, Failure, GroupSample, JobKey, JobSamples, Owner, PartitionSample, SourceReading, SourceSample,
    SourceSpec, Watch, WorkerEndpoint, WorkerReading, WorkerSample,
};
pub use scrape::{HttpScraper, Scrape};
pub use source::{Cluster, Connect, Place};
