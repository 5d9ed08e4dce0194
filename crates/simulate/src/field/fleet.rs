//! The pods: created, started, joined, killed, replaced, removed, billed.

use super::logs::lognormal;
use super::world::World;
use crate::random::Random;

/// A record that is being processed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lane {
    /// Partition of the record.
    pub(crate) partition: Option<u32>,
    /// Work that is left, seconds at speed 1.
    pub(crate) left: f64,
    /// Time up to which this lane was simulated.
    pub(crate) at: f64,
}

/// The counters that a worker reported at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReportedCounters {
    pub(crate) at: f64,
    pub(crate) processed: f64,
    pub(crate) in_time: f64,
    pub(crate) busy: f64,
}

/// One pod.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    /// Unique number of the pod.
    pub(crate) uid: u32,
    /// Position in the order of the group's members.
    pub(crate) member: u64,
    pub(crate) created: f64,
    /// When its process started.
    pub(crate) started: f64,
    pub(crate) ready_at: f64,
    pub(crate) joins_at: f64,
    pub(crate) joined: bool,
    /// Version of the job that it runs.
    pub(crate) version: u32,
    /// Speed factors: a constant one, and one that varies over time.
    pub(crate) speed: f64,
    pub(crate) wander: f64,
    pub(crate) stops_until: f64,
    pub(crate) lanes: Vec<Lane>,
    /// Its partitions, and where a free lane looks next.
    pub(crate) mine: Vec<u32>,
    pub(crate) pointer: usize,
    /// Records in its partitions, including those being processed (record by record).
    pub(crate) waiting: f64,
    pub(crate) processed: f64,
    pub(crate) in_time: f64,
    /// Seconds of work, summed over lanes.
    pub(crate) busy: f64,
    pub(crate) commits_at: f64,
    pub(crate) scraped_at: f64,
    pub(crate) reported: Option<ReportedCounters>,
    /// Until when it is billed after its removal.
    pub(crate) gone_at: f64,
}

/// All pods, oldest first.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) live: Vec<Pod>,
    pub(crate) leaving: Vec<Pod>,
    random: Random,
    next: u32,
    pub(crate) version: u32,
}

impl Fleet {
    /// Returns `count` pods that have been working for a long time.
    pub(crate) fn new(world: &World, count: u32) -> Self {
        let random = Random::new(world.seed, 23);
        let mut fleet = Self { live: Vec::new(), leaving: Vec::new(), random, next: 0, version: 0 };
        for _ in 0..count {
            fleet.make(world, -3600.0);
            if let Some(pod) = fleet.live.last_mut() {
                (pod.started, pod.ready_at, pod.joins_at) = (-3600.0, -3500.0, -3500.0);
            }
        }
        fleet
    }

    fn make(&mut self, world: &World, now: f64) {
        let mut start_up = world.start_up * (world.start_up_spread * self.random.normal()).exp();
        // Sometimes an image is pulled, or a volume is slow.
        if self.random.uniform() < 0.03 && world.start_up_spread > 0.0 {
            start_up *= 3.0;
        }
        let joins_at = now + start_up;
        let started = now + (0.3 * start_up).min(10.0);
        let speed = (world.speed_spread * self.random.normal()).exp().clamp(0.5, 2.0);
        self.live.push(Pod {
            uid: self.next,
            member: self.random.bits(),
            created: now,
            started,
            ready_at: (joins_at - world.ready_before_joining).max(started),
            joins_at,
            joined: false,
            version: self.version,
            speed,
            wander: world.speed_noise * self.random.normal(),
            stops_until: f64::NEG_INFINITY,
            lanes: vec![Lane::default(); world.lanes as usize],
            mine: Vec::new(),
            pointer: 0,
            waiting: 0.0,
            processed: 0.0,
            in_time: 0.0,
            busy: 0.0,
            commits_at: f64::NEG_INFINITY,
            scraped_at: f64::NEG_INFINITY,
            reported: None,
            gone_at: f64::INFINITY,
        });
        self.next += 1;
    }

    /// Creates or removes pods until their number is the wanted one, like a `ReplicaSet`: pods that are not ready are
    /// removed first, then those of an old version, then the newest. During a rollout a quarter more are created, and
    /// an old one is removed for each new one that is ready. Returns the `uid`s of removed pods that had joined.
    pub(crate) fn follow(&mut self, world: &World, wanted: u32, now: f64) -> Vec<u32> {
        let old = self.live.iter().filter(|pod| pod.version < self.version).count();
        let surge = if old > 0 { wanted.div_ceil(4) } else { 0 };
        let mut removed = Vec::new();
        while self.live.len() < (wanted + surge) as usize {
            if old > 0 && self.live.len() >= wanted as usize {
                // Only as many as there are old ones left to replace.
                let new = self.live.len() - self.live.iter().filter(|pod| pod.version < self.version).count();
                if new >= wanted as usize {
                    break;
                }
            }
            self.make(world, now);
        }
        if old > 0 {
            let ready = self.live.iter().filter(|pod| pod.ready_at <= now).count();
            let mut spare = ready.saturating_sub(wanted as usize);
            while spare > 0 {
                let Some(index) = self.live.iter().position(|pod| pod.version < self.version) else { break };
                self.remove(index, now + world.removal, &mut removed);
                spare -= 1;
            }
        }
        while self.live.len() > (wanted + surge) as usize {
            let unready = self.live.iter().rposition(|pod| pod.ready_at > now);
            let aged = self.live.iter().rposition(|pod| pod.version < self.version);
            let index = unready.or(aged).unwrap_or(self.live.len() - 1);
            self.remove(index, now + world.removal, &mut removed);
        }
        removed
    }

    fn remove(&mut self, index: usize, gone_at: f64, removed: &mut Vec<u32>) {
        let mut pod = self.live.remove(index);
        if pod.joined {
            removed.push(pod.uid);
        }
        pod.joined = false;
        pod.gone_at = gone_at;
        pod.mine.clear();
        self.leaving.push(pod);
    }

    /// Kills a worker that has joined; it starts again in its pod, without the time for finding a node and pulling an
    /// image.
    pub(crate) fn kill(&mut self, world: &World, now: f64) -> Option<u32> {
        let joined = self.joined();
        let chosen = self.random.below(joined);
        let start_up = 0.6 * world.start_up * lognormal(&mut self.random, world.start_up_spread);
        let pod = self.live.iter_mut().filter(|pod| pod.joined).nth(chosen)?;
        (pod.started, pod.joined) = (now, false);
        pod.joins_at = now + start_up;
        pod.ready_at = (pod.joins_at - world.ready_before_joining).max(now + 0.5);
        (pod.processed, pod.in_time, pod.busy) = (0.0, 0.0, 0.0);
        pod.lanes.iter_mut().for_each(|lane| *lane = Lane::default());
        pod.mine.clear();
        pod.reported = None;
        // A new process is a new member.
        pod.member = self.random.bits();
        Some(pod.uid)
    }

    /// Advances each worker's speed by one step (AR(1)).
    pub(crate) fn wander(&mut self, keep: f64, scatter: f64) {
        for pod in &mut self.live {
            pod.wander = pod.wander * keep + scatter * self.random.bell();
        }
    }

    pub(crate) fn joined(&self) -> usize {
        self.live.iter().filter(|pod| pod.joined).count()
    }

    pub(crate) fn ready(&self, now: f64) -> usize {
        self.live.iter().filter(|pod| pod.ready_at <= now).count()
    }

    /// Returns the number of billed pods.
    pub(crate) fn billed(&self) -> usize {
        self.live.len() + self.leaving.len()
    }
}
