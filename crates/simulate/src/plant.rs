//! The plant: pods process partitions, second by second, and faults happen.

use super::assign::{NO_OWNER, sticky};
use super::parts::{Latencies, Parts, Second};
use super::pods::Pods;
use super::random::Random;
use super::scenario::{Handover, Noise, Scenario};

/// A running job.
pub(crate) struct Plant<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) parts: Parts,
    pub(crate) pods: Pods,
    /// Replica count that the rule wants.
    pub(crate) desired: u32,
    /// When all partitions resume after a restart of the job (`Handover::Restart`).
    pub(crate) restarting_until: f64,
    pub(crate) latencies: Latencies,
    /// Number of partitions that moved from one worker to another.
    pub(crate) moves: usize,
    /// The partitions of each live pod: `members[first[i]..first[i + 1]]`.
    members: Vec<u16>,
    first: Vec<u32>,
    /// When the group notices each worker that died.
    notices: Vec<f64>,
    next_kill: f64,
    node_lost: bool,
    random: Random,
    scatter: Option<Random>,
    /// AR(1) process of the workers' speeds: share kept each second, and the random part that is added.
    speed: (f64, f64),
}

impl<'a> Plant<'a> {
    /// Returns a plant with this many workers, ready for some time. `longest`: longest deadline that is judged,
    /// seconds.
    pub(crate) fn new(scenario: &'a Scenario, workers: u32, longest: usize) -> Self {
        let keep = (-1.0 / scenario.speed_memory.max(1e-3)).exp();
        let mut plant = Self {
            scenario,
            parts: Parts::new(scenario.weights(), scenario.deadline(), longest),
            pods: Pods::new(scenario, workers),
            desired: workers,
            restarting_until: f64::NEG_INFINITY,
            latencies: Latencies::new(),
            moves: 0,
            members: Vec::new(),
            first: Vec::new(),
            notices: Vec::new(),
            next_kill: scenario.faults.kill_every.unwrap_or(f64::INFINITY),
            node_lost: false,
            random: Random::new(scenario.seed, 4),
            scatter: matches!(scenario.noise, Noise::Poisson).then(|| Random::new(scenario.seed, 5)),
            speed: (keep, scenario.speed_noise * (1.0 - keep * keep).sqrt()),
        };
        plant.pods.live.iter_mut().for_each(|pod| pod.joined = true);
        plant.assign(0.0, true);
        plant
    }

    /// Simulates one second, from time `second` to `second + 1`.
    pub(crate) fn step(&mut self, second: usize, arrivals: f64) -> Second {
        let now = second as f64;
        self.events(now);
        self.parts.arrive(second, arrivals, self.scatter.as_mut());
        self.pods.wander(self.speed.0, self.speed.1);
        self.work(second);
        let result = self.parts.close(second, &mut self.latencies);
        self.commit(now + 1.0);
        result
    }

    /// Applies all events that change which worker owns which partition.
    fn events(&mut self, now: f64) {
        let scenario = self.scenario;
        self.pods.leaving.retain(|pod| pod.gone_at > now);
        let mut lost = self.kill(now);
        lost.extend(self.pods.crash(scenario, now));
        for uid in &lost {
            self.orphan(*uid, now);
        }
        let mut changed = self.pods.roll(scenario, now);
        changed |= self.pods.follow(scenario, self.desired + self.pods.surge(), now);
        self.pods.schedule(scenario, now);
        for pod in &mut self.pods.live {
            if !pod.joined && pod.ready_at <= now {
                pod.joined = true;
                changed = true;
            }
        }
        let waiting = self.notices.len();
        self.notices.retain(|at| *at > now);
        changed |= self.notices.len() < waiting;
        if let Some(partition) = scenario.faults.stuck.and_then(|stuck| stuck.at(now)) {
            self.parts.pause(partition.min(self.parts.count() - 1), now + 1.0);
        }
        if changed {
            self.assign(now, false);
        } else if !lost.is_empty() || self.first.len() != self.pods.live.len() + 1 {
            // No worker joined or left, but pods were created, removed or lost, so their order has changed.
            self.group();
        }
    }

    /// Kills workers: one after each period, or many at once. Returns the `uid`s of the dead.
    fn kill(&mut self, now: f64) -> Vec<u32> {
        let ready = self.pods.ready();
        let mut victims = 0;
        if now >= self.next_kill {
            self.next_kill += self.scenario.faults.kill_every.unwrap_or(f64::INFINITY);
            victims += 1;
        }
        if let Some(loss) = self.scenario.faults.node_loss.filter(|loss| !self.node_lost && now >= loss.at) {
            self.node_lost = true;
            victims += (ready as f64 * loss.value).ceil() as usize;
        }
        let mut dead = Vec::new();
        for _ in 0..victims.min(ready) {
            let chosen = self.random.below(self.pods.ready());
            let index = self.pods.live.iter().enumerate().filter(|(_, pod)| pod.joined).nth(chosen).map(|(i, _)| i);
            if let Some(index) = index {
                dead.push(self.pods.live.remove(index).uid);
            }
        }
        dead
    }

    /// Handles the death of a worker: its partitions stop until the group notices, and uncommitted work is repeated.
    fn orphan(&mut self, uid: u32, now: f64) {
        let until = now + self.scenario.crash_handover;
        for partition in 0..self.parts.count() {
            if self.parts.owner[partition] == uid {
                self.parts.owner[partition] = NO_OWNER;
                self.parts.roll_back(partition);
                self.parts.pause(partition, until);
            }
        }
        self.notices.push(until);
    }

    /// Assigns the partitions to the present workers.
    fn assign(&mut self, now: f64, first: bool) {
        let joined: Vec<u32> = self.pods.live.iter().filter(|pod| pod.joined).map(|pod| pod.uid).collect();
        // The partitions of a worker whose death was not noticed yet stay with it.
        let unnoticed: Vec<bool> =
            (0..self.parts.count()).map(|p| self.parts.owner[p] == NO_OWNER && self.notices_after(p, now)).collect();
        let mut owners = std::mem::take(&mut self.parts.owner);
        let (parts, handover) = (&mut self.parts, self.scenario.handover);
        let before = owners.clone();
        sticky(&mut owners, &joined, |p| unnoticed[p]);
        if let (Handover::Restart(seconds), false) = (handover, first) {
            self.restarting_until = now + seconds;
            (0..owners.len()).for_each(|p| parts.pause(p, now + seconds));
        }
        for p in 0..owners.len() {
            if owners[p] != before[p] {
                parts.commit(p);
                self.moves += usize::from(!first);
                if let (Handover::Handoff(seconds), false) = (handover, first || before[p] == NO_OWNER) {
                    parts.pause(p, now + seconds);
                }
            }
        }
        self.parts.owner = owners;
        self.group();
    }

    /// Returns whether this partition waits for the group to notice a death.
    fn notices_after(&self, partition: usize, now: f64) -> bool {
        self.parts.paused[partition] > now && self.notices.iter().any(|at| *at > now)
    }

    /// Sorts the partitions by owner.
    fn group(&mut self) {
        self.members.clear();
        self.first.clear();
        for pod in &self.pods.live {
            self.first.push(self.members.len() as u32);
            let owned = self.parts.owner.iter().enumerate().filter(|(_, owner)| **owner == pod.uid);
            self.members.extend(owned.map(|(p, _)| p as u16));
        }
        self.first.push(self.members.len() as u32);
    }

    fn work(&mut self, second: usize) {
        let now = second as f64;
        let (scenario, faults) = (self.scenario, &self.scenario.faults);
        let each = scenario.capacity * scenario.efficiency(self.pods.ready());
        let slow = faults.slow.and_then(|slow| slow.at(now)).unwrap_or((0, 1.0));
        let newer = faults.deploy.map_or(1.0, |deploy| deploy.value);
        let capacity = |index: usize, version: u32, speed: f64| {
            let slow = if index < slow.0 as usize { slow.1 } else { 1.0 };
            let version = if version > 0 { newer } else { 1.0 };
            (each * speed * slow * version).max(1e-6)
        };
        let limit = faults.bottleneck.and_then(|bottleneck| bottleneck.at(now));
        let throttle = limit.map_or(1.0, |limit| {
            let mut wanted = 0.0;
            for (index, pod) in self.pods.live.iter().enumerate() {
                let mine = &self.members[self.first[index] as usize..self.first[index + 1] as usize];
                let able = capacity(index, pod.version, pod.speed * (1.0 + pod.wander).max(0.1));
                wanted += self.parts.waiting(mine, now).min(able);
            }
            if wanted > limit { limit / wanted } else { 1.0 }
        });
        for (index, pod) in self.pods.live.iter_mut().enumerate() {
            let mine = &self.members[self.first[index] as usize..self.first[index + 1] as usize];
            if mine.is_empty() {
                continue;
            }
            let able = capacity(index, pod.version, pod.speed * (1.0 + pod.wander).max(0.1));
            let allowed = if throttle < 1.0 { self.parts.waiting(mine, now).min(able) * throttle } else { able };
            let done = self.parts.work(mine, allowed, now);
            pod.processed += done;
            pod.in_time += done - self.parts.overdue_done(mine, second);
            pod.cpu += done / able;
            // A worker that waits for a downstream system is busy although it processes little.
            pod.busy += if throttle < 1.0 && done > 0.0 { 1.0 } else { done / able };
        }
    }

    fn commit(&mut self, time: f64) {
        for (index, pod) in self.pods.live.iter_mut().enumerate() {
            if time >= pod.commits_at {
                pod.commits_at += self.scenario.commit_every.max(1e-3);
                if pod.commits_at <= time {
                    pod.commits_at = time;
                }
                for p in &self.members[self.first[index] as usize..self.first[index + 1] as usize] {
                    self.parts.commit(usize::from(*p));
                }
            }
        }
    }
}
