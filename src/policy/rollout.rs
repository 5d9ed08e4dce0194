//! What a number of workers would do to the latency: each worker's queue, followed for as long as it takes until another
//! decision could have worked.
//!
//! A worker is a fluid queue: records arrive at its share of the demand, and leave at what it can do. A change takes
//! effect after `at` seconds; the partitions that it moves stand still for `pause` seconds more, and what arrived for
//! them meanwhile is worked off after that.

use super::crew::{Crew, Part, UNEVEN};
use super::num;

/// What is late at the end is reckoned with for so long at most, seconds.
const TAIL: f64 = 600.0;
/// Most steps of one roll-out.
const STEPS: f64 = 40.0;

/// Records that will arrive, in equal steps of time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path {
    /// Seconds.
    pub(crate) step: f64,
    pub(crate) records: Vec<f64>,
}

impl Path {
    /// `until(t)`: records that arrive within t seconds; it never falls.
    pub(crate) fn new(horizon: f64, until: impl Fn(f64) -> f64) -> Self {
        let step = (horizon / STEPS).max(0.5);
        let steps = num::ceil_u32(horizon / step).clamp(1, 64);
        let mut before = 0.0;
        let records = (1..=steps).map(|index| {
            let sum = until(f64::from(index) * step).max(before);
            let grown = sum - before;
            before = sum;
            grown
        });
        Self { step, records: records.collect() }
    }

    fn steps(&self, seconds: f64) -> usize {
        usize::try_from(num::ceil_u32(seconds / self.step - 1e-9)).unwrap_or(0).min(self.records.len())
    }
}

/// A change of the number of workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// Seconds until it takes effect.
    pub(crate) at: f64,
    /// Seconds that moved partitions stand still.
    pub(crate) pause: f64,
    /// All partitions stand still, moved or not.
    pub(crate) all_stop: bool,
}

/// What came out. Delays in seconds beyond what processing takes anyway.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Longest that any record waits.
    pub(crate) worst: f64,
    /// Longest before the change takes effect.
    pub(crate) before: f64,
    /// Longest at the end.
    pub(crate) end: f64,
    /// Records that wait for longer than the limit.
    pub(crate) late: f64,
}

/// Follows the queues of `parts`, that `crew` becomes by `change`, for `horizon` seconds. `mu`: records per second of a
/// worker of speed 1. `limit`: seconds after which a record is late.
pub(crate) fn rollout(
    crew: &Crew,
    parts: &[Part],
    change: Option<Change>,
    path: &Path,
    (mu, horizon, limit): (f64, f64, f64),
) -> Outcome {
    let mut out = Outcome::default();
    let change = change.unwrap_or(Change { at: 0.0, pause: 0.0, all_stop: false });
    let (at, until) = (path.steps(change.at), path.steps(horizon));
    let before = path.records.get(..at).unwrap_or_default();
    let after = path.records.get(at..until.max(at)).unwrap_or_default();
    // Until the change.
    let mut lags: Vec<f64> = Vec::with_capacity(crew.loads.len());
    let mut given_up = 0.0;
    for load in &crew.loads {
        let does = mu * load.speed;
        let mut queue = Queue::new(load.lag, does, limit, (load.age, load.uneven), &mut out);
        for records in before {
            queue.step(records * load.share, path.step);
        }
        lags.push(queue.lag);
    }
    out.before = out.worst;
    let shares = crew.pool(parts);
    let kept = |part: &Part| part.from.and_then(|i| crew.loads.get(i).zip(lags.get(i)));
    for part in parts {
        given_up += kept(part).map_or(0.0, |(_, lag)| lag * part.kept);
    }
    let given_up = if crew.sticky { (lags.iter().sum::<f64>() - given_up).max(0.0) } else { 0.0 };
    // After it.
    let paused = path.steps(change.pause);
    for part in parts {
        let (share, lag) = kept(part).map_or((0.0, 0.0), |(l, lag)| (l.keeps(part), lag * part.kept));
        let (moved, waiting) = (shares * part.pool, given_up * part.pool);
        let (share, lag, moved, waiting) = if change.all_stop || !crew.sticky && change.pause > 0.0 {
            (0.0, 0.0, share + moved, lag + waiting)
        } else {
            (share, lag, moved, waiting)
        };
        let does = mu * part.speed;
        let uneven = kept(part).map_or(UNEVEN, |(l, _)| l.uneven);
        let oldest = kept(part).map_or(0.0, |(l, _)| l.age) + change.at;
        let mut queue = Queue::new(lag, does, limit, (oldest, uneven), &mut out);
        let stands = if moved > 0.0 { paused.min(after.len()) } else { 0 };
        let (standing, moving) = after.split_at(stands);
        let mut held = waiting;
        for records in standing {
            queue.step(records * share, path.step);
            held += records * moved;
        }
        if moved > 0.0 {
            let delay = change.pause + waiting / does.max(1e-9) * UNEVEN.min(2.0);
            queue.late(delay, held);
            queue.lag += held;
        }
        for records in moving {
            queue.step(records * (share + moved), path.step);
        }
        let end = queue.delay();
        let rate = path.records.get(until.saturating_sub(1)).map_or(0.0, |r| r / path.step) * (share + moved);
        queue.goes_on(rate);
        out.end = out.end.max(end);
    }
    out
}

/// One worker's queue.
struct Queue<'a> {
    lag: f64,
    does: f64,
    /// Seconds for each record: divisions were most of what a decision took.
    per_record: f64,
    limit: f64,
    /// Nobody has waited for longer than this.
    oldest: f64,
    uneven: f64,
    out: &'a mut Outcome,
}

impl<'a> Queue<'a> {
    fn new(lag: f64, does: f64, limit: f64, (oldest, uneven): (f64, f64), out: &'a mut Outcome) -> Self {
        Self { lag, does, per_record: 1.0 / does.max(1e-9), limit, oldest, uneven, out }
    }

    fn step(&mut self, arrived: f64, seconds: f64) {
        self.lag = (self.lag + arrived - self.does * seconds).max(0.0);
        self.oldest += seconds;
        let delay = self.delay();
        self.late(delay, arrived);
    }

    fn delay(&self) -> f64 {
        // Most queues are empty most of the time.
        if self.lag <= 0.0 {
            return 0.0;
        }
        let waits = self.lag * self.per_record;
        (self.uneven * waits).min(self.oldest.max(waits))
    }

    /// What is still late at the end stays so until it is worked off, or others have come.
    fn goes_on(&mut self, rate: f64) {
        let over = self.delay() - self.limit;
        if over > 0.0 {
            let spare = (self.does - rate).max(0.0);
            self.out.late += rate * (over * self.does / spare.max(1e-9)).min(TAIL);
        }
    }

    fn late(&mut self, delay: f64, arrived: f64) {
        self.out.worst = self.out.worst.max(delay);
        if delay > self.limit {
            self.out.late += arrived;
        }
    }
}
