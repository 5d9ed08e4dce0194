//! Measures lag, progress and latency: one module for each kind of source, one for the workers' metrics, and the hub
//! that samples them in the background.
//!
//! Architecture invariant: only this crate connects to sources.
//!
//! Architecture invariant: unknown is not zero. A value that could not be read is `None` with a reason, and an old
//! sample keeps its own time.

pub mod dial;
pub mod egress;
pub mod hub;
pub mod kafka;
pub mod limits;
pub mod prometheus_text;
pub mod sample;
pub mod scrape;
mod service_names;
pub mod source;
mod tunnel;

pub use egress::Egress;
pub use hub::{Hub, HubStats, Signals, Threads};
pub use kafka::KafkaConnect;
pub use limits::Limits;
pub use sample::{
    Category, Failure, GroupSample, JobKey, JobSamples, Owner, PartitionSample, SourceReading, SourceSample,
    SourceSpec, WatchSpec, WorkerEndpoint, WorkerReading, WorkerSample,
};
pub use scrape::{HttpScraper, Scrape};
pub use source::{Cluster, ClusterAddress, Connect};
