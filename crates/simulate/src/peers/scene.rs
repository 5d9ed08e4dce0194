//! Observations for the tests of the peers: all workers do the same, and all partitions have the same lag.

use sluice_base::units::Seconds;
use sluice_policy::{Observation, Partition, Replicas, Worker};

/// A job as the tests need it.
pub(super) struct Scene {
    pub(super) at: f64,
    /// Busy fraction of each worker.
    pub(super) busy: f64,
    /// Records per second of each worker.
    pub(super) rate: f64,
    /// Records appended per second, all partitions.
    pub(super) arriving: f64,
    /// Records behind, all partitions.
    pub(super) lag: i64,
    partitions: usize,
    appended: f64,
    workers: Vec<Worker>,
}

impl Scene {
    pub(super) fn new(workers: usize, partitions: usize) -> Self {
        let mut scene = Self {
            at: 1000.0,
            busy: 0.0,
            rate: 0.0,
            arriving: 0.0,
            lag: 0,
            partitions,
            appended: 1e12,
            workers: Vec::new(),
        };
        scene.resize(workers);
        for worker in &mut scene.workers {
            worker.created_at = Some(Seconds(0.0));
            worker.started_at = Some(Seconds(1.0));
        }
        scene
    }

    /// Changes the number of workers to `n` at once; new ones are ready.
    pub(super) fn resize(&mut self, n: usize) {
        self.workers.truncate(n);
        for i in self.workers.len()..n {
            self.workers.push(Worker {
                id: format!("w-{i}"),
                created_at: Some(Seconds(self.at)),
                started_at: Some(Seconds(self.at)),
                ready: Some(true),
                processed: Some(0.0),
                busy_seconds: Some(0.0),
                cpu_seconds: Some(0.0),
                ..Worker::default()
            });
        }
    }

    /// Lets time pass and returns an observation.
    pub(super) fn pass(&mut self, seconds: f64) -> Observation {
        self.at += seconds;
        self.appended += self.arriving * seconds;
        let (busy, processed) = (self.busy * seconds, self.rate * seconds);
        for worker in &mut self.workers {
            worker.at = Some(Seconds(self.at));
            worker.busy_seconds = worker.busy_seconds.map(|b| b + busy);
            worker.cpu_seconds = worker.cpu_seconds.map(|c| c + busy);
            worker.processed = worker.processed.map(|p| p + processed);
        }
        let each = i64::try_from(self.partitions).unwrap();
        let end = (self.appended / each as f64) as i64;
        let partition = |i: usize| Partition {
            id: format!("t/{i}"),
            end: Some(end),
            committed: Some(end - self.lag / each - i64::from((i as i64) < self.lag % each)),
            ..Partition::default()
        };
        let n = u32::try_from(self.workers.len()).unwrap();
        Observation {
            at: Seconds(self.at),
            replicas: Replicas { desired: Some(n), existing: Some(n), ready: Some(n) },
            partitions: (0..self.partitions).map(partition).collect(),
            workers: self.workers.clone(),
            ..Observation::default()
        }
    }
}
