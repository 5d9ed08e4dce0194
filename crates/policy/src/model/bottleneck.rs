//! An external bottleneck: records wait for all workers, and more of them do no more together.
//!
//! What all workers did together is remembered for each number of workers. When records wait for nearly all of them and
//! they do less than a third of the gain that the last more useful number promised, the smaller number was as good: the
//! operator goes back to it and waits, at first five minutes, then twice as long each time, before it tries a quarter
//! more.
//!
//! After workers were added, and while records still wait for nearly all, no more are added until what the last ones gave
//! has been seen: each step without an answer would be a larger mistake.
//!
//! - Excited by: throughput while nothing changes; a verdict needs a queue at nearly every worker.
//! - Ignores: changes under way, and stretches in which records do not wait.
//! - Way back: entries expire after twenty minutes; a verdict ends when the throughput rises by a quarter, when going back
//!   lowers it, when its patience is over, and with another template.

use std::collections::BTreeMap;

/// Share of the expected gain below which more workers were in vain.
const GAIN: f64 = 0.3;
/// Throughput counts for this long, seconds.
const REMEMBERED: f64 = 1200.0;
/// The throughput at which a verdict no longer holds, as a share of what it was.
const FREED: f64 = 1.25;
/// Going back to fewer workers must not cost more than this share.
const WORSE: f64 = 0.85;
/// Patience at first and at most, seconds.
const PATIENCE: f64 = 300.0;
const MOST_PATIENCE: f64 = 7200.0;
/// Numbers of workers that are remembered.
const MOST: usize = 32;

/// What was found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Workers that do as much as more of them.
    pub(crate) workers: u32,
    /// Records per second that all of them do together.
    pub(crate) rate: f64,
    until: f64,
}

/// What one look says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throughput {
    pub(crate) now: f64,
    /// Workers that work.
    pub(crate) workers: u32,
    /// Records per second that they process together, over the window.
    pub(crate) rate: f64,
    /// Records wait for nearly all of them.
    pub(crate) queued: bool,
    /// Seconds that the rate is averaged over.
    pub(crate) window: f64,
}

/// Watches whether more workers do more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bottleneck {
    /// Workers -> (records per second together, when, whether records waited for all of them).
    did: BTreeMap<u32, (f64, f64, bool)>,
    steady_since: Option<(f64, u32)>,
    queued_since: Option<f64>,
    found: Option<Found>,
    /// Until when what the last change gave is being watched.
    pending_until: Option<f64>,
    /// The same from when the workers that were added have come.
    added_until: Option<f64>,
    /// Throughput before going back, to compare with.
    before: Option<(u32, f64)>,
    patience: f64,
}

impl Bottleneck {
    /// The bottleneck, while it is believed in.
    pub(crate) fn holds(&self, now: f64) -> Option<Found> {
        self.found.filter(|found| now < found.until)
    }

    /// Most workers that are tried after a verdict: a quarter more than were enough, for what all share suffers from more.
    pub(crate) fn probe(&self) -> Option<u32> {
        self.found.map(|found| found.workers.saturating_add((found.workers / 4).max(1)))
    }

    /// Whether it is too soon to say what the last change gave: records wait for nearly all workers.
    pub(crate) fn pending(&self, now: f64) -> bool {
        [self.pending_until, self.added_until].into_iter().flatten().any(|until| now < until)
    }

    /// Another template: what held for the old one says nothing.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Something changes: nothing can be compared until it is over.
    pub(crate) fn interrupt(&mut self) {
        (self.steady_since, self.queued_since, self.pending_until) = (None, None, None);
    }

    /// More workers have come: what they gave shows within the window.
    pub(crate) fn added(&mut self, now: f64, window: f64) {
        self.added_until = Some(now + window);
    }

    /// The number of workers changes.
    pub(crate) fn begin_change(&mut self) {
        self.interrupt();
        self.added_until = None;
    }

    /// Takes in a look at a job in which nothing changes. `share(n)`: the hottest worker's share with n workers.
    pub(crate) fn observe(&mut self, seen: Throughput, share: impl Fn(u32) -> f64) {
        let now = seen.now;
        if self.found.is_some_and(|found| seen.rate > FREED * found.rate) {
            *self = Self::default();
        }
        self.did.retain(|_, did| now - did.1 < REMEMBERED);
        let since = match self.steady_since {
            Some((since, workers)) if workers == seen.workers => since,
            _ => {
                (self.steady_since, self.queued_since) = (Some((now, seen.workers)), None);
                now
            }
        };
        self.queued_since = if seen.queued { self.queued_since.or(Some(now)) } else { None };
        let smaller = self.did.range(..seen.workers).next_back().map(|(workers, did)| (*workers, did.0));
        let gave = smaller.is_none_or(|(workers, rate)| {
            seen.rate - rate >= GAIN * rate * (share(workers) / share(seen.workers).max(1e-12) - 1.0)
        });
        let watched = if gave { seen.window } else { 2.5 * seen.window };
        self.pending_until = (seen.queued && smaller.is_some()).then_some(since + watched);
        // A rate over the window says nothing until the whole window is of this number of workers.
        if now - since < seen.window {
            return;
        }
        if gave {
            self.added_until = None;
        }
        let queued = self.queued_since.is_some_and(|since| now - since >= seen.window);
        if self.did.len() < MOST || self.did.contains_key(&seen.workers) {
            let did = self.did.entry(seen.workers).or_insert((0.0, now, false));
            // With a queue the rate is what they can do; without, they did at least that.
            if queued || seen.rate >= did.0 {
                *did = (seen.rate, now, queued);
            }
        }
        if let (Some(found), Some((workers, rate))) = (self.found, self.before)
            && seen.workers == found.workers
        {
            self.before = None;
            if queued && seen.rate < WORSE * rate {
                // Fewer do less: what they share was not the limit.
                self.did.remove(&workers);
                self.found = None;
                self.patience = 0.0;
                return;
            }
        }
        // A stall looks like it for a while: the verdict waits for as long again.
        let long = self.queued_since.is_some_and(|since| now - since >= 2.0 * seen.window);
        if long && self.found.is_none_or(|found| now >= found.until) {
            self.judge(seen, share);
        }
    }

    fn judge(&mut self, seen: Throughput, share: impl Fn(u32) -> f64) {
        let promised = |workers: u32| share(workers) / share(seen.workers).max(1e-12);
        // The nearest smaller number whose step to this one promised a tenth more at least.
        let smaller = self.did.range(..seen.workers).rev().find(|(workers, _)| promised(**workers) > 1.1);
        let Some((workers, (rate, ..))) = smaller.map(|(w, d)| (*w, *d)) else { return };
        if seen.rate - rate >= GAIN * rate * (promised(workers) - 1.0) {
            if self.found.take().is_some() {
                self.patience = 0.0;
            }
            return;
        }
        // The fewest that did about as much as any.
        let best = self.did.range(..=seen.workers).map(|(_, did)| did.0).fold(0.0, f64::max);
        let fewest = self.did.range(..=workers).find(|(_, did)| did.0 >= 0.95 * best).map_or(workers, |(w, _)| *w);
        self.patience = (2.0 * self.patience).clamp(PATIENCE, MOST_PATIENCE);
        self.found = Some(Found { workers: fewest, rate: best, until: seen.now + self.patience });
        self.before = Some((seen.workers, seen.rate));
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.did.len() * 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even(workers: u32) -> f64 {
        1.0 / f64::from(workers.max(1))
    }

    fn watch(bottleneck: &mut Bottleneck, from: u32, workers: u32, rate: f64, queued: bool) {
        for second in 0..30 {
            let now = f64::from(from + second);
            bottleneck.observe(Throughput { now, workers, rate, queued, window: 10.0 }, even);
        }
    }

    #[test]
    fn more_workers_that_do_no_more_are_seen_whatever_they_were_added_for() {
        let mut bottleneck = Bottleneck::default();
        // Four did 900 without a queue (a growth Up follows), twelve do 400 with one.
        watch(&mut bottleneck, 0, 4, 900.0, false);
        bottleneck.interrupt();
        watch(&mut bottleneck, 60, 12, 400.0, true);
        let found = bottleneck.holds(90.0).unwrap();
        assert_eq!(found.workers, 4);
        assert_eq!(bottleneck.probe(), Some(5));
        assert!(bottleneck.holds(90.0 + PATIENCE).is_none(), "tried again after a while");
    }

    #[test]
    fn workers_that_got_slower_for_another_reason_are_not_sent_away_twice() {
        let mut bottleneck = Bottleneck::default();
        watch(&mut bottleneck, 0, 4, 4000.0, true);
        // Each does half of what it did before: eight do as much as four did.
        watch(&mut bottleneck, 60, 8, 4000.0, true);
        assert_eq!(bottleneck.holds(90.0).unwrap().workers, 4);
        bottleneck.interrupt();
        watch(&mut bottleneck, 120, 4, 2000.0, true);
        assert!(bottleneck.holds(150.0).is_none(), "four do half of it now: it was not shared");
        watch(&mut bottleneck, 180, 8, 4000.0, true);
        assert!(bottleneck.holds(210.0).is_none());
    }

    #[test]
    fn more_that_do_more_are_no_bottleneck() {
        let mut bottleneck = Bottleneck::default();
        watch(&mut bottleneck, 0, 4, 4000.0, true);
        watch(&mut bottleneck, 60, 5, 5000.0, true);
        assert!(bottleneck.holds(90.0).is_none());
    }
}
