//! The plant: pods process partitions, step by step, under the conditions of the world.

use super::deal::deal;
use super::fleet::{Fleet, ReportedCounters};
use super::logs::{Logs, lognormal};
use super::truth::Truth;
use super::work::{Turn, flow, serve, wanted};
use super::world::{Commits, Handover, Phase, World};
use crate::assign::NO_OWNER;
use crate::random::Random;

/// Correlation time of the workers' speeds, seconds.
const SPEED_MEMORY: f64 = 50.0;
/// Time after which a cold worker is warm, seconds.
const WARM: f64 = 60.0;
/// Waiting work at which batches have their largest size, seconds.
const FULL_BATCH: f64 = 5.0;

/// A running job.
pub(crate) struct Plant<'a> {
    pub(crate) world: &'a World,
    pub(crate) logs: Logs,
    pub(crate) fleet: Fleet,
    pub(crate) truth: Truth,
    /// Replica count that the rule wants.
    pub(crate) desired: u32,
    /// Time until which the group is rebalancing.
    pub(crate) dealing_until: f64,
    pub(crate) step: f64,
    /// Records that arrived in this step, on average.
    pub(crate) arriving: f64,
    /// When the group notices each worker that died.
    notices: Vec<f64>,
    next_death: f64,
    next_pause: f64,
    commits_at: Vec<f64>,
    /// Positions taken by a checkpoint, and when they are committed.
    checkpoint: Option<(f64, Vec<f64>)>,
    next_checkpoint: f64,
    /// Index in the fleet of the pod of each `uid`.
    place: Vec<usize>,
    random: Random,
    keep: f64,
    scratch: Vec<f64>,
    discrete: bool,
}

impl<'a> Plant<'a> {
    pub(crate) fn new(world: &'a World, workers: u32) -> Self {
        let step = 1.0 / world.steps_per_second() as f64;
        let mut random = Random::new(world.seed, 24);
        let logs = Logs::new(world);
        let seconds = match world.commits {
            Commits::Every { seconds, .. } | Commits::Checkpoint { seconds, .. } => seconds,
            Commits::Batch | Commits::Never => 0.0,
        };
        let commits_at = (0..logs.count()).map(|_| seconds * random.uniform()).collect();
        let mut plant = Self {
            world,
            logs,
            fleet: Fleet::new(world, workers),
            truth: Truth::new(world.latency, world.warm_up(), step),
            desired: workers,
            dealing_until: f64::NEG_INFINITY,
            step,
            arriving: 0.0,
            notices: Vec::new(),
            next_death: world.deaths.map_or(f64::INFINITY, |deaths| deaths.every * exponential(&mut random)),
            next_pause: world.pauses.map_or(f64::INFINITY, |pauses| pauses.every * random.uniform()),
            commits_at,
            checkpoint: None,
            next_checkpoint: seconds,
            place: Vec::new(),
            random,
            keep: (-step / SPEED_MEMORY).exp(),
            scratch: Vec::new(),
            discrete: world.is_discrete(),
        };
        plant.fleet.live.iter_mut().for_each(|pod| pod.joined = true);
        plant.assign(0.0, &[], true);
        plant
    }

    /// Simulates one step, from `now`.
    pub(crate) fn step(&mut self, now: f64) {
        let world = self.world;
        self.events(now);
        let rate = world.load.rates().get((now + 1e-9) as usize).copied().unwrap_or(0.0);
        self.arriving = f64::from(rate) * self.step;
        if self.logs.arrive(world, now, self.step, self.arriving) && self.discrete {
            self.count_waiting();
        }
        if world.speed_noise > 0.0 {
            self.fleet.wander(self.keep, world.speed_noise * (1.0 - self.keep * self.keep).sqrt());
        }
        self.work(now);
        self.commit(now + self.step);
        self.logs.remember(now + self.step);
    }

    /// Applies all events that change which worker owns which partition.
    fn events(&mut self, now: f64) {
        let world = self.world;
        self.fleet.leaving.retain(|pod| pod.gone_at > now);
        if let (true, Some(deaths)) = (now >= self.next_death, world.deaths) {
            self.next_death = now + deaths.every * exponential(&mut self.random);
            if let Some(uid) = self.fleet.kill(world, now) {
                self.orphan(uid, now + deaths.notice);
            }
        }
        if world.deploy.is_some_and(|deploy| now >= deploy.at) {
            self.fleet.version = 1;
        }
        if let (true, Some(pauses)) = (now >= self.next_pause, world.pauses) {
            let workers = if pauses.together { 1.0 } else { self.fleet.joined().max(1) as f64 };
            self.next_pause = now + pauses.every / workers * (0.5 + self.random.uniform());
            let chosen = self.random.below(self.fleet.live.len());
            for (index, pod) in self.fleet.live.iter_mut().enumerate() {
                if pauses.together || index == chosen {
                    pod.stops_until = now + pauses.seconds;
                }
            }
        }
        let removed = self.fleet.follow(world, self.desired, now);
        let mut changed = !removed.is_empty();
        for pod in &mut self.fleet.live {
            if !pod.joined && pod.joins_at <= now {
                pod.joined = true;
                changed = true;
            }
        }
        let before = self.notices.len();
        self.notices.retain(|at| *at > now);
        changed |= self.notices.len() < before;
        if changed {
            self.assign(now, &removed, false);
        }
    }

    /// Handles the death of a worker: its partitions stop until the group notices, and uncommitted work is repeated.
    fn orphan(&mut self, uid: u32, until: f64) {
        for p in 0..self.logs.count() {
            if self.logs.owner[p] == uid {
                self.logs.owner[p] = NO_OWNER;
                self.logs.held[p] = false;
                self.logs.roll_back(p);
                self.logs.pause(p, until);
            }
        }
        self.notices.push(until);
        self.group();
    }

    /// Assigns the group's partitions to its members.
    fn assign(&mut self, now: f64, removed: &[u32], first: bool) {
        let world = self.world;
        let mut members: Vec<(u64, u32)> =
            self.fleet.live.iter().filter(|pod| pod.joined).map(|pod| (pod.member, pod.uid)).collect();
        members.sort_unstable();
        let members: Vec<u32> = members.into_iter().map(|member| member.1).collect();
        // The partitions of a worker whose death was not noticed yet stay with it.
        let unnoticed = self.notices.iter().any(|at| *at > now);
        let stays: Vec<bool> = (0..self.logs.count())
            .map(|p| unnoticed && self.logs.owner[p] == NO_OWNER && self.logs.paused[p] > now)
            .collect();
        let before = std::mem::take(&mut self.logs.owner);
        let mut owners = before.clone();
        deal(world.assignor, &mut owners, &members, |p| stays[p]);
        let seconds = world.handover_seconds * lognormal(&mut self.random, 0.3);
        let eager = world.handover == Handover::Eager;
        if !first {
            self.dealing_until = now + seconds;
        }
        for p in 0..owners.len() {
            let moves = owners[p] != before[p];
            if first || stays[p] || !(moves || eager) {
                continue;
            }
            if before[p] != NO_OWNER {
                if world.commits_on_revoke {
                    self.logs.commit(p);
                } else if moves || removed.contains(&before[p]) {
                    self.logs.roll_back(p);
                }
            }
            if moves {
                self.logs.held[p] = false;
            }
            self.logs.pause(p, now + seconds);
        }
        self.logs.owner = owners;
        self.group();
    }

    /// Gives every pod the list of its partitions; a lane stops working on a partition that its worker lost.
    fn group(&mut self) {
        self.place.clear();
        for (index, pod) in self.fleet.live.iter_mut().enumerate() {
            let uid = pod.uid as usize;
            if self.place.len() <= uid {
                self.place.resize(uid + 1, usize::MAX);
            }
            self.place[uid] = index;
            pod.mine.clear();
            pod.pointer = 0;
        }
        for (p, owner) in self.logs.owner.iter().enumerate() {
            let place = self.place.get(*owner as usize).copied().unwrap_or(usize::MAX);
            if let Some(pod) = self.fleet.live.get_mut(place).filter(|pod| pod.joined) {
                pod.mine.push(p as u32);
            }
        }
        for pod in &mut self.fleet.live {
            for lane in &mut pod.lanes {
                if lane.partition.is_some_and(|p| self.logs.owner[p as usize] != pod.uid) {
                    lane.partition = None;
                }
            }
        }
        self.count_waiting();
    }

    fn count_waiting(&mut self) {
        let logs = &self.logs;
        for pod in &mut self.fleet.live {
            pod.waiting = pod.mine.iter().map(|p| logs.end[*p as usize] - logs.position[*p as usize]).sum();
        }
    }

    fn work(&mut self, now: f64) {
        let world = self.world;
        let turns: Vec<Turn> = (0..self.fleet.live.len()).map(|index| self.turn(index, now)).collect();
        let allowed = self.allowed(&turns, now);
        for (index, pod) in self.fleet.live.iter_mut().enumerate() {
            if !pod.joined || pod.mine.is_empty() {
                continue;
            }
            let turn = Turn { allowed, ..turns[index] };
            if self.discrete {
                serve(world, &mut self.logs, pod, turn, &mut self.truth);
            } else {
                flow(world, &mut self.logs, pod, turn, &mut self.scratch, &mut self.truth);
            }
        }
    }

    /// Returns how fast a worker is in this step.
    fn turn(&mut self, index: usize, now: f64) -> Turn {
        let world = self.world;
        let pod = &self.fleet.live[index];
        let mut speed = pod.speed * (1.0 + pod.wander).max(0.1);
        if index == 0 {
            speed *= world.slow_one.unwrap_or(1.0);
        }
        if let (true, Some(deploy)) = (pod.version > 0, world.deploy) {
            speed *= deploy.speed;
        }
        if world.cold < 1.0 {
            speed *= world.cold + (1.0 - world.cold) * ((now - pod.joins_at) / WARM).clamp(0.0, 1.0);
        }
        if let Some(tide) = world.tide {
            speed *= 1.0 + tide.amplitude * (std::f64::consts::TAU * now / tide.period).sin();
        }
        if world.batch_gain > 0.0 {
            let waiting: f64 = pod.mine.iter().map(|p| self.logs.backlog(*p as usize)).sum();
            speed *= 1.0 + world.batch_gain * (waiting / world.capacity() / FULL_BATCH).min(1.0);
        }
        if world.cost_sigma > 0.0 && !self.discrete {
            // Records of uneven cost: the more there are in a step, the less their mean varies.
            let records = (speed * self.step * world.capacity()).max(1.0);
            let spread = ((world.cost_sigma * world.cost_sigma).exp() - 1.0).sqrt() / records.sqrt();
            speed *= (1.0 + spread * self.random.bell()).clamp(0.3, 3.0);
        }
        Turn { now, step: self.step, speed, allowed: 1.0, stops: pod.stops_until > now }
    }

    /// Returns the share of the workers' capacity that the shared bottleneck allows.
    fn allowed(&self, turns: &[Turn], now: f64) -> f64 {
        let Some(bottleneck) = self.world.bottleneck.filter(|b| now >= b.from && now < b.until) else { return 1.0 };
        let others = self.fleet.joined().saturating_sub(1) as f64;
        let limit = bottleneck.rate * (1.0 - bottleneck.loss_per_worker * others).max(0.2) * self.step;
        let joined = self.fleet.live.iter().zip(turns).filter(|(pod, _)| pod.joined);
        let wanted: f64 = joined.map(|(pod, turn)| wanted(self.world, &self.logs, pod, *turn)).sum();
        if wanted > limit { limit / wanted } else { 1.0 }
    }

    fn commit(&mut self, now: f64) {
        match self.world.commits {
            Commits::Never => {}
            Commits::Batch => (0..self.logs.count()).for_each(|p| self.commit_owned(p)),
            Commits::Every { seconds, phase: Phase::Worker } => {
                for index in 0..self.fleet.live.len() {
                    let pod = &mut self.fleet.live[index];
                    if !pod.joined || now < pod.commits_at {
                        continue;
                    }
                    // The first commit comes within an interval; the clock of an auto-commit runs from the join.
                    let first = pod.commits_at == f64::NEG_INFINITY;
                    let share = if first { self.random.uniform() } else { 1.0 };
                    pod.commits_at = if first { now } else { pod.commits_at.max(now - self.step) } + share * seconds;
                    if first {
                        continue;
                    }
                    for nth in 0..self.fleet.live[index].mine.len() {
                        let p = self.fleet.live[index].mine[nth] as usize;
                        self.logs.commit(p);
                    }
                }
            }
            Commits::Every { seconds, phase } => {
                let all = phase == Phase::All && now >= self.commits_at[0];
                for p in 0..self.logs.count() {
                    if all || (phase == Phase::Partition && now >= self.commits_at[p]) {
                        self.commits_at[p] = self.commits_at[p].max(now - self.step) + seconds;
                        self.commit_owned(p);
                    }
                }
            }
            Commits::Checkpoint { seconds, takes } => {
                if let Some((_, positions)) = self.checkpoint.take_if(|(at, _)| now >= *at) {
                    for (p, position) in positions.into_iter().enumerate() {
                        // A partition that fell back since then must not be committed beyond what is processed.
                        if self.logs.owner[p] != NO_OWNER {
                            self.logs.commit_at(p, position);
                        }
                    }
                }
                if now >= self.next_checkpoint {
                    self.next_checkpoint = now + seconds;
                    self.checkpoint = Some((now + takes, self.logs.position.clone()));
                }
            }
        }
    }

    fn commit_owned(&mut self, p: usize) {
        if self.logs.owner[p] != NO_OWNER {
            self.logs.commit(p);
        }
    }

    /// Reads a worker's counters and positions at the end of this step.
    pub(crate) fn scrape(&mut self, index: usize, now: f64) {
        let pod = &mut self.fleet.live[index];
        if now < pod.started {
            return;
        }
        pod.reported =
            Some(ReportedCounters { at: now, processed: pod.processed, in_time: pod.in_time, busy: pod.busy });
        if self.world.signals.positions {
            for p in &pod.mine {
                self.logs.reported[*p as usize] = (self.logs.position[*p as usize], now);
            }
        }
    }
}

fn exponential(random: &mut Random) -> f64 {
    -(1.0 - random.uniform()).ln()
}
