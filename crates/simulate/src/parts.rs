//! Partitions: the records that arrived, were processed, were committed and were late in each.
//!
//! Every partition is first in, first out. A record that arrives in second s is late if it is not processed by the end
//! of second s + L, where L is the objective in whole seconds; that is, if D(T) < A(T - L) at time T. Each record is
//! judged once, at its deadline, even if it is processed again later. So a pause of D seconds makes the arrivals of
//! (D - L) seconds late.

use super::assign::NO_OWNER;

/// All partitions, one array for each quantity. Offsets are records since the beginning.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// Share of all records.
    pub(crate) weight: Vec<f64>,
    /// Records that arrived.
    pub(crate) end: Vec<f64>,
    /// Position of its worker.
    pub(crate) position: Vec<f64>,
    /// Furthest position that any worker reached.
    pub(crate) done: Vec<f64>,
    /// Offset committed by the group.
    pub(crate) committed: Vec<f64>,
    /// `uid` of the owner, or `NO_OWNER`.
    pub(crate) owner: Vec<u32>,
    /// Time until which it is stopped, seconds.
    pub(crate) paused: Vec<f64>,
    /// Time after which no partition is stopped, seconds.
    pub(crate) all_run_from: f64,
    /// Whether records were left when the last second ended.
    behind: bool,
    /// Second in which the oldest unprocessed record arrived; valid while `behind`.
    oldest: Vec<u32>,
    /// Arrivals by the end of each of the last `rows` seconds, one row of all partitions for each.
    rows: usize,
    history: Vec<f64>,
    deadline: usize,
    /// Total arrivals by the end of each second.
    total: Vec<f64>,
    /// Scratch space for sharing a worker's capacity.
    scratch: Vec<f64>,
}

/// The results of one second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Second {
    /// Records whose deadline passed.
    pub(crate) due: f64,
    /// Records among these that were not processed.
    pub(crate) late: f64,
    /// Records processed for the first time.
    pub(crate) done: f64,
    /// Age of the oldest unprocessed record at the end of the second, seconds.
    pub(crate) age: f64,
    /// Unprocessed records at the end of the second.
    pub(crate) backlog: f64,
}

impl Parts {
    /// Returns partitions with the objective's deadline; arrivals are kept for the longest deadline that is judged.
    pub(crate) fn new(weight: Vec<f64>, deadline: usize, longest: usize) -> Self {
        let count = weight.len();
        let rows = deadline.max(longest) + 2;
        Self {
            end: vec![0.0; count],
            position: vec![0.0; count],
            done: vec![0.0; count],
            committed: vec![0.0; count],
            owner: vec![NO_OWNER; count],
            paused: vec![f64::NEG_INFINITY; count],
            all_run_from: f64::NEG_INFINITY,
            behind: false,
            oldest: vec![0; count],
            rows,
            history: vec![0.0; rows * count],
            deadline,
            total: Vec::new(),
            scratch: vec![0.0; count],
            weight,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.weight.len()
    }

    /// Stops a partition until a time.
    pub(crate) fn pause(&mut self, partition: usize, until: f64) {
        self.paused[partition] = self.paused[partition].max(until);
        self.all_run_from = self.all_run_from.max(until);
    }

    /// Rolls a partition back to its last commit after its worker died.
    pub(crate) fn roll_back(&mut self, partition: usize) {
        self.position[partition] = self.committed[partition];
    }

    pub(crate) fn commit(&mut self, partition: usize) {
        self.committed[partition] = self.position[partition];
    }

    /// Returns the offsets that are due at the end of a second, or `None` if nothing is due yet.
    pub(crate) fn due(&self, second: usize) -> Option<&[f64]> {
        self.due_after(self.deadline, second)
    }

    fn due_after(&self, deadline: usize, second: usize) -> Option<&[f64]> {
        let row = second.checked_sub(deadline)? % self.rows;
        self.history.get(row * self.count()..(row + 1) * self.count())
    }

    /// Distributes the arrivals of one second by weight. With `scatter`, each partition's number varies like that of
    /// independent records, and the sum is kept.
    pub(crate) fn arrive(&mut self, second: usize, arrivals: f64, scatter: Option<&mut super::random::Random>) {
        self.total.push(self.total.last().copied().unwrap_or(0.0) + arrivals);
        match scatter {
            None => self.end.iter_mut().zip(&self.weight).for_each(|(end, weight)| *end += arrivals * weight),
            Some(random) => {
                let mut sum = 0.0;
                for (draw, weight) in self.scratch.iter_mut().zip(&self.weight) {
                    let mean = arrivals * weight;
                    *draw = (mean + mean.sqrt() * random.bell()).max(0.0);
                    sum += *draw;
                }
                let factor = if sum > 0.0 { arrivals / sum } else { 0.0 };
                self.end.iter_mut().zip(&self.scratch).for_each(|(end, draw)| *end += draw * factor);
            }
        }
        let row = second % self.rows;
        let count = self.count();
        self.history[row * count..(row + 1) * count].copy_from_slice(&self.end);
    }

    /// Returns the records that a worker with these partitions could process in the second that begins at `time`.
    pub(crate) fn waiting(&self, mine: &[u16], time: f64) -> f64 {
        if time >= self.all_run_from {
            return mine.iter().map(|p| self.end[usize::from(*p)] - self.position[usize::from(*p)]).sum();
        }
        let share = |p: usize| (time + 1.0 - self.paused[p]).clamp(0.0, 1.0);
        mine.iter().map(|p| usize::from(*p)).map(|p| (self.end[p] - self.position[p]) * f64::from(share(p) > 0.0)).sum()
    }

    /// Lets one worker process up to `capacity` records of its partitions in the second that begins at `time`. They
    /// share the capacity equally, and what one does not need goes to the others. Returns the number of records.
    pub(crate) fn work(&mut self, mine: &[u16], capacity: f64, time: f64) -> f64 {
        let running = time >= self.all_run_from;
        if running {
            let mut sum = 0.0;
            for p in mine {
                let p = usize::from(*p);
                sum += self.end[p] - self.position[p];
            }
            if sum <= capacity {
                for p in mine {
                    let p = usize::from(*p);
                    self.position[p] = self.end[p];
                }
                return sum;
            }
        }
        // What each partition can take: nothing while it is stopped, and a part if it resumes within the second.
        let mut wanted = 0.0;
        for (want, p) in self.scratch.iter_mut().zip(mine) {
            let p = usize::from(*p);
            let share = if running { 1.0 } else { (time + 1.0 - self.paused[p]).clamp(0.0, 1.0) };
            *want = (self.end[p] - self.position[p]).min(share * capacity);
            wanted += *want;
        }
        let wants = &self.scratch[..mine.len()];
        let level = if wanted <= capacity { f64::INFINITY } else { water_level(wants, capacity) };
        let mut sum = 0.0;
        for (want, p) in wants.iter().zip(mine) {
            let p = usize::from(*p);
            let (end, given) = (self.end[p], want.min(level));
            let position = self.position[p];
            // Set exactly to the end when nothing is left, so that an empty partition is recognised as empty.
            self.position[p] = if position + given >= end - 1e-9 { end } else { position + given };
            sum += given;
        }
        sum
    }

    /// Returns how many of the records processed in this second were overdue when it began.
    pub(crate) fn overdue_done(&self, mine: &[u16], second: usize) -> f64 {
        let Some(due) = second.checked_sub(1).and_then(|before| self.due(before)).filter(|_| self.behind) else {
            return 0.0;
        };
        let late = |p: usize| (self.position[p].min(due[p]) - self.done[p]).max(0.0);
        mine.iter().map(|p| late(usize::from(*p))).sum()
    }

    /// Closes a second: judges the records whose deadline it is, and records the latency of those that were processed.
    pub(crate) fn close(&mut self, second: usize, latencies: &mut Latencies) -> Second {
        let mut result = Second { due: self.due_records(self.deadline, second), ..Second::default() };
        if self.behind {
            result.late = self.late_records(self.deadline, second);
            self.close_behind(second, latencies, &mut result);
        } else {
            // Nothing was left before, so everything processed now arrived now, and nothing is past its deadline.
            let mut at_once = 0.0;
            for ((done, position), end) in self.done.iter_mut().zip(&self.position).zip(&self.end) {
                let now = position.max(*done);
                at_once += now - *done;
                *done = now;
                result.backlog += end - now;
            }
            result.done = at_once;
            latencies.add(0, at_once);
            if result.backlog > 0.0 {
                self.oldest.fill(second as u32);
            }
        }
        self.behind = result.backlog > 0.0;
        result
    }

    /// Returns the records whose deadline passes in this second.
    pub(crate) fn due_records(&self, deadline: usize, second: usize) -> f64 {
        let arrived = |second: usize| self.total.get(second).copied().unwrap_or(0.0);
        let row = second.checked_sub(deadline);
        row.map_or(0.0, |row| arrived(row) - row.checked_sub(1).map_or(0.0, arrived))
    }

    /// Returns how many of these are not processed; the same before and after the second is closed.
    pub(crate) fn late_records(&self, deadline: usize, second: usize) -> f64 {
        let Some(row) = second.checked_sub(deadline) else { return 0.0 };
        let count = self.count();
        let due = &self.history[row % self.rows * count..][..count];
        let before = &self.history[(row + self.rows - 1) % self.rows * count..][..count];
        let late = |p: usize| {
            let from = if row == 0 { 0.0 } else { before[p] };
            let now = self.position[p].max(self.done[p]);
            (due[p] - now.max(from)).max(0.0)
        };
        (0..count).map(late).sum()
    }

    fn close_behind(&mut self, second: usize, latencies: &mut Latencies, result: &mut Second) {
        let ends_before = (second + self.rows - 1) % self.rows * self.count();
        let mut at_once = 0.0;
        for p in 0..self.count() {
            let first = self.done[p];
            let now = self.position[p].max(first);
            let end = self.end[p];
            if first >= self.history[ends_before + p] {
                self.oldest[p] = second as u32;
                at_once += now - first;
            } else if now > first {
                self.record_latencies(p, second, first, now, latencies);
            }
            self.done[p] = now;
            result.done += now - first;
            if now < end {
                result.backlog += end - now;
                result.age = result.age.max(f64::from(second as u32 - self.oldest[p]));
            }
        }
        latencies.add(0, at_once);
    }

    /// Records the latencies of the records `first..now` of a partition, processed in this second. When they arrived
    /// follows from how many wait behind them and from the arrivals of the whole job.
    fn record_latencies(&mut self, p: usize, second: usize, first: f64, now: f64, latencies: &mut Latencies) {
        let weight = self.weight[p].max(1e-12);
        let mut at = self.total[second] - (self.end[p] - first) / weight;
        let to = self.total[second] - (self.end[p] - now) / weight;
        let mut oldest = self.oldest[p] as usize;
        while oldest < second && self.total[oldest] <= at {
            oldest += 1;
        }
        while oldest < second && self.total[oldest] <= to {
            latencies.add(second - oldest, (self.total[oldest] - at).max(0.0) * weight);
            at = at.max(self.total[oldest]);
            oldest += 1;
        }
        latencies.add(second - oldest, (to - at).max(0.0) * weight);
        self.oldest[p] = oldest as u32;
    }

    /// Counts the records that will never be processed among the latencies.
    pub(crate) fn abandon(&mut self, second: usize, latencies: &mut Latencies) {
        for p in 0..self.count() {
            if self.done[p] < self.end[p] {
                self.record_latencies(p, second, self.done[p], self.end[p], latencies);
            }
        }
    }

    /// Returns the records that will never be processed and whose deadline has not passed yet.
    pub(crate) fn late_to_come(&self, deadline: usize, second: usize) -> f64 {
        let due = self.due_after(deadline, second);
        let to_come = |p: usize| (self.end[p] - due.map_or(0.0, |due| due[p]).max(self.done[p])).max(0.0);
        (0..self.count()).map(to_come).sum()
    }
}

/// Returns the level up to which each demand is met if their sum exceeds the capacity.
fn water_level(wants: &[f64], capacity: f64) -> f64 {
    let mut level = capacity / wants.len().max(1) as f64;
    loop {
        let (mut met, mut hungry) = (0.0, 0.0);
        for want in wants {
            if *want <= level {
                met += want;
            } else {
                hungry += 1.0;
            }
        }
        let next = (capacity - met) / f64::max(hungry, 1.0);
        if hungry < 1.0 || next <= level * (1.0 + 1e-12) {
            return level;
        }
        level = next;
    }
}

/// Records by latency, in bins of one second.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    bins: Vec<f64>,
    pub(crate) max: usize,
}

impl Latencies {
    /// Returns empty bins up to two hours; the last one holds all longer latencies.
    pub(crate) fn new() -> Self {
        Self { bins: vec![0.0; 7201], max: 0 }
    }

    fn add(&mut self, seconds: usize, records: f64) {
        let last = self.bins.len() - 1;
        self.bins[seconds.min(last)] += records;
        if records > 1e-6 {
            self.max = self.max.max(seconds);
        }
    }

    /// Returns the latency that this share of the records did not exceed, seconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let total: f64 = self.bins.iter().sum();
        let mut sum = 0.0;
        for (seconds, records) in self.bins.iter().enumerate() {
            sum += records;
            if sum >= share * total {
                return seconds as f64;
            }
        }
        (self.bins.len() - 1) as f64
    }
    /// Returns the share of the records that took longer than this number of seconds.
    pub(crate) fn share_above(&self, seconds: usize) -> f64 {
        let above: f64 = self.bins.iter().skip(seconds + 1).sum();
        above / self.bins.iter().sum::<f64>().max(1e-9)
    }
}
