//! What is measured and learned about a job, one file for each idea. The module docs say what each estimate learns
//! from, what it ignores, and how it recovers from an error.

pub(crate) mod arrivals;
pub(crate) mod attainment;
pub(crate) mod bottleneck;
pub(crate) mod capacity;
pub(crate) mod caution;
pub(crate) mod commit_interval;
pub(crate) mod durations;
pub(crate) mod evidence;
pub(crate) mod flight;
pub(crate) mod floor;
pub(crate) mod forecast;
pub(crate) mod memory;
pub(crate) mod offset_history;
pub(crate) mod offsets_per_record;
pub(crate) mod partition;
pub(crate) mod partition_table;
pub(crate) mod progress;
pub(crate) mod queued_progress;
pub(crate) mod reading;
pub(crate) mod staircase;
pub(crate) mod trial;
pub(crate) mod workers;
