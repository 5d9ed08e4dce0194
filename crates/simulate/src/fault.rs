//! What may go wrong in a run, as data. Times are seconds since the begin of the load.

/// Something that holds from one time to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct During<T> {
    /// Begin, seconds.
    pub from: f64,
    /// End, seconds.
    pub until: f64,
    /// What holds.
    pub value: T,
}

impl<T: Copy> During<T> {
    /// `value` from one time to another.
    pub fn new(from: f64, until: f64, value: T) -> Self {
        Self { from, until, value }
    }

    /// What holds at this time, if it does.
    pub fn at(&self, time: f64) -> Option<T> {
        (time >= self.from && time < self.until).then_some(self.value)
    }
}

/// Something that happens at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Once<T> {
    /// When, seconds.
    pub at: f64,
    /// What happens.
    pub value: T,
}

/// All faults of a scenario; none by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// A ready worker dies every so many seconds (Demeter's schedule: 2700 s) and a new pod takes its place.
    pub kill_every: Option<f64>,
    /// This share of the ready workers dies at once, rounded up.
    pub node_loss: Option<Once<f64>>,
    /// Workers read metrics of this age: a sample is shown again, with its old time, until it is this old. Seconds.
    pub staleness: f64,
    /// Share of samples, of the source and of each worker, that get lost: the old one stays.
    pub dropped: f64,
    /// The source does not answer: no partitions are seen.
    pub outage: Option<During<()>>,
    /// The source leaves out this share of the partitions, other ones at each look.
    pub partial: Option<During<f64>>,
    /// The workers' counters are missing.
    pub workers_missing: Option<During<()>>,
    /// The workers' counters stand still, freshly sampled, while they work: rates of zero.
    pub workers_frozen: Option<During<()>>,
    /// All workers together can do no more than this, records per second: a database behind them. They wait for it, so
    /// they are busy all the time.
    pub bottleneck: Option<During<f64>>,
    /// This partition stands still (a poison record) while the others move on.
    pub stuck: Option<During<usize>>,
    /// So many pods, the newest, crash again and again.
    pub crash_loop: Option<During<u32>>,
    /// Pods beyond this many find no node. Those that wait are not billed.
    pub unschedulable: Option<During<u32>>,
    /// A quota: no pod is made beyond this many, and the limit is told.
    pub quota: Option<During<u32>>,
    /// So many workers, the oldest, work at this factor of their speed.
    pub slow: Option<During<(u32, f64)>>,
    /// A new version of the job: pods are replaced one by one, and the new ones do this factor of the capacity.
    pub deploy: Option<Once<f64>>,
    /// The rule is restarted: it forgets what a restart of the operator forgets.
    pub restart_at: Option<f64>,
}
