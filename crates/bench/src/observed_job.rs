//! A job as it is observed: every two seconds, with every signal. Its load is steady for an hour, and `after` times
//! that from then on.

use sluice_base::units::Seconds;
use sluice_policy::{Group, Observation, Partition, Replicas, Worker};

/// Number of observations in an hour.
pub const HOUR: u32 = 1800;
const SECONDS: f64 = 2.0;
const BEGIN: f64 = 1_764_000_000.0;

/// A job whose workers process `CAPACITY` records per second each.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Partitions of its topic.
    pub partitions: u32,
    /// Its workers.
    pub workers: u32,
    /// Load after the hour, as a multiple of that of the hour.
    pub after: f64,
    /// Mean share of their time that workers work in the hour: those with more or heavier partitions more.
    pub busy: f64,
}

const CAPACITY: f64 = 1000.0;

impl Job {
    /// Returns the rate of a partition, records per second; partitions differ.
    fn rate(&self, partition: u32) -> f64 {
        let mean = self.busy * CAPACITY * f64::from(self.workers) / f64::from(self.partitions);
        mean * (0.8 + 0.4 * f64::from(partition) / f64::from(self.partitions - 1))
    }

    /// Returns the observation with this number, from 0.
    pub fn observation(&self, look: u32) -> Observation {
        let at = BEGIN + SECONDS * f64::from(look);
        // Offsets and counters in seconds of the hour's load, which swings by a tenth.
        let hour = SECONDS * f64::from(look.min(HOUR)) + 1.4 * (f64::from(look) / 7.0).sin();
        let later = SECONDS * f64::from(look.saturating_sub(HOUR));
        let seconds = hour + self.after * later;
        // Workers process at most their capacity; the rest waits.
        let done = hour + self.after.min(1.0 / self.busy) * later;
        let offset = |partition: u32, seconds: f64| Some((1e6 + self.rate(partition) * seconds.max(0.0)) as i64);
        let worker = |number: u32| format!("orders-7c9f4d5b8-x{number:02}");
        let partition = |number: u32| Partition {
            id: format!("orders/{number}"),
            source: Some("orders".into()),
            at: Some(Seconds(at - 0.003 * f64::from(number % 100))),
            end: offset(number, seconds),
            committed: offset(number, done - 3.0),
            position: offset(number, done - 0.2),
            due_end: offset(number, seconds - 10.0),
            start: Some(0),
            owner: Some(worker(number % self.workers)),
            ..Partition::default()
        };
        let processed = 0.999 * done * self.busy * CAPACITY;
        let worker_at = |number: u32| Worker {
            id: worker(number),
            at: Some(Seconds(at - 0.7)),
            created_at: Some(Seconds(BEGIN - 1000.0)),
            started_at: Some(Seconds(BEGIN - 998.0)),
            ready: Some(true),
            terminating: Some(false),
            template: Some("7c9f4d5b8".into()),
            processed: Some(processed),
            in_time: Some(processed),
            busy_seconds: Some(processed / CAPACITY),
            cpu_seconds: Some(0.8 * processed / CAPACITY),
            ..Worker::default()
        };
        Observation {
            at: Seconds(at),
            replicas: Replicas { desired: Some(self.workers), existing: Some(self.workers), ready: Some(self.workers) },
            partitions: (0..self.partitions).map(partition).collect(),
            groups: vec![Group {
                source: Some("orders".into()),
                state: Some("Stable".into()),
                assignor: Some("cooperative-sticky".into()),
                ..Group::default()
            }],
            workers: (0..self.workers).map(worker_at).collect(),
            ..Observation::default()
        }
    }
}
