//! Faults of a run, as data. Times are seconds since the load began.

/// A value that holds for a period of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct During<T> {
    /// Beginning of the period, seconds.
    pub from: f64,
    /// End of the period, seconds.
    pub until: f64,
    /// The value.
    pub value: T,
}

impl<T: Copy> During<T> {
    /// Returns a value that holds from one time to another.
    pub fn new(from: f64, until: f64, value: T) -> Self {
        Self { from, until, value }
    }

    /// Returns the value at this time, if it holds then.
    pub fn at(&self, time: f64) -> Option<T> {
        (time >= self.from && time < self.until).then_some(self.value)
    }
}

/// An event at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Once<T> {
    /// Time of the event, seconds.
    pub at: f64,
    /// The event.
    pub value: T,
}

/// All faults of a scenario; by default there are none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// Period after which a ready worker dies and a new pod replaces it, seconds (the schedule of the Demeter runs:
    /// 2700).
    pub kill_every: Option<f64>,
    /// Share of the ready workers that dies at once, rounded up.
    pub node_loss: Option<Once<f64>>,
    /// Age of the metrics that rules see, seconds: a sample is shown again, with its old time, until it is this old.
    pub staleness: f64,
    /// Share of the samples, of the source and of each worker, that get lost; the previous one stays.
    pub dropped: f64,
    /// The source does not respond: no partitions are seen.
    pub outage: Option<During<()>>,
    /// Share of the partitions that the source leaves out, a different selection each time.
    pub partial: Option<During<f64>>,
    /// The workers' counters are missing.
    pub workers_missing: Option<During<()>>,
    /// The workers' counters do not increase, although they are freshly sampled and the workers process records.
    pub workers_frozen: Option<During<()>>,
    /// Most records per second that all workers together can process: a database behind them. They wait for it, so they
    /// are busy all the time.
    pub bottleneck: Option<During<f64>>,
    /// A partition that is stuck (a poison record) while the others progress.
    pub stuck: Option<During<usize>>,
    /// Number of pods, the newest, that crash-loop.
    pub crash_loop: Option<During<u32>>,
    /// Number of pods that nodes have room for. Pods that wait for a node are not billed.
    pub unschedulable: Option<During<u32>>,
    /// Quota: number of pods that may exist; the rule sees this limit.
    pub quota: Option<During<u32>>,
    /// Number of workers, the oldest, and the factor on their speed.
    pub slow: Option<During<(u32, f64)>>,
    /// Rollout of a new version: pods are replaced one by one, and new ones have this factor of the capacity.
    pub deploy: Option<Once<f64>>,
    /// Restarts of the rule: it forgets what a restart of the operator forgets.
    pub restart_at: Option<f64>,
}
