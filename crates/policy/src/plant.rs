//! A small fluid model of a job for the tests of this crate: partitions, and workers that start, hand over and commit.
//!
//! It is not the simulator; it exists so that a law can be tested in closed loop.

use super::{Decision, Group, Memory, Observation, Partition, Replicas, Settings, Worker};
use sluice_base::units::Seconds;

pub(crate) fn settings() -> Settings {
    Settings::for_objective(Seconds(10.0), 0.99, (1, 40))
}

#[derive(Clone)]
struct Part {
    end: f64,
    position: f64,
    committed: f64,
    owner: Option<u64>,
    paused_until: f64,
    weight: f64,
    /// (time, end) for exact ages.
    log: Vec<(f64, f64)>,
}

#[derive(Clone)]
struct Pod {
    id: u64,
    created: f64,
    ready_at: f64,
    processed: f64,
    busy: f64,
    template: &'static str,
}

/// Which signals the workers report.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reported {
    Everything,
    CommitsOnly,
}

#[derive(Clone)]
pub(crate) struct Plant {
    pub(crate) now: f64,
    pub(crate) memory: Memory,
    pub(crate) settings: Settings,
    parts: Vec<Part>,
    pods: Vec<Pod>,
    next_id: u64,
    pub(crate) desired: u32,
    pub(crate) mu: f64,
    pub(crate) start_up: f64,
    pub(crate) handover: f64,
    pub(crate) commit_every: f64,
    /// Template of new pods.
    pub(crate) template: &'static str,
    pub(crate) reported: Reported,
    /// Whether samples of the source fail.
    pub(crate) outage: bool,
    /// Partitions that the source reports from now on, whatever happens.
    pub(crate) frozen: Option<Vec<Partition>>,
    /// Sources that the spec names; empty: not known.
    pub(crate) sources: Vec<super::Source>,
    pub(crate) noise: f64,
    random: u64,
    pub(crate) due: f64,
    pub(crate) late: f64,
    pub(crate) worker_seconds: f64,
    pub(crate) arrived: f64,
    /// (time, from, decision)
    pub(crate) changes: Vec<(f64, u32, Decision)>,
    pub(crate) last: Option<Decision>,
}

const STEP: f64 = 0.25;

impl Plant {
    pub(crate) fn new(partitions: usize, workers: u32) -> Self {
        let part =
            Part { end: 0.0, position: 0.0, committed: 0.0, owner: None, paused_until: 0.0, weight: 1.0, log: vec![] };
        let mut plant = Self {
            now: 1.764e9,
            memory: Memory::default(),
            settings: settings(),
            parts: vec![part; partitions],
            pods: vec![],
            next_id: 0,
            desired: workers,
            mu: 1000.0,
            start_up: 2.0,
            handover: 0.5,
            commit_every: 5.0,
            template: "a",
            reported: Reported::Everything,
            outage: false,
            frozen: None,
            sources: Vec::new(),
            noise: 0.1,
            random: 42,
            due: 0.0,
            late: 0.0,
            worker_seconds: 0.0,
            arrived: 0.0,
            changes: vec![],
            last: None,
        };
        plant.start_pods();
        for pod in &mut plant.pods {
            pod.ready_at = plant.now;
            pod.created = plant.now - 100.0;
        }
        plant.assign(true);
        plant
    }

    pub(crate) fn weights(&mut self, weight: impl Fn(usize) -> f64) {
        for (index, part) in self.parts.iter_mut().enumerate() {
            part.weight = weight(index);
        }
    }

    fn uniform(&mut self) -> f64 {
        // splitmix64: a seeded sequence is all that is needed.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn start_pods(&mut self) {
        while (self.pods.len() as u32) < self.desired {
            let ready_at = self.now + self.start_up;
            self.pods.push(Pod {
                id: self.next_id,
                created: self.now,
                ready_at,
                processed: 0.0,
                busy: 0.0,
                template: self.template,
            });
            self.next_id += 1;
        }
        self.pods.truncate(self.desired as usize);
    }

    /// Takes one step of a rollout: removes the oldest pod and starts a new one.
    pub(crate) fn replace_one(&mut self) {
        self.pods.remove(0);
        self.start_pods();
    }

    /// Assigns partitions as a sticky assignor does: pods with too many give some to pods with too few, and moved
    /// partitions pause.
    fn assign(&mut self, first: bool) {
        let ready: Vec<u64> = self.pods.iter().filter(|p| p.ready_at <= self.now).map(|p| p.id).collect();
        if ready.is_empty() {
            self.parts.iter_mut().for_each(|p| p.owner = None);
            return;
        }
        let quota = |i: usize, total: usize| total / ready.len() + usize::from(i < total % ready.len());
        let mut counts = vec![0_usize; ready.len()];
        let total = self.parts.len();
        let mut free = vec![];
        for (index, part) in self.parts.iter_mut().enumerate() {
            match part.owner.and_then(|o| ready.iter().position(|r| *r == o)) {
                Some(w) if counts[w] < quota(w, total) => counts[w] += 1,
                _ => free.push(index),
            }
        }
        for index in free {
            let w = (0..ready.len()).find(|w| counts[*w] < quota(*w, total)).unwrap();
            counts[w] += 1;
            let part = &mut self.parts[index];
            part.owner = Some(ready[w]);
            if !first {
                part.paused_until = self.now + self.handover;
            }
        }
    }

    /// Runs for `seconds` under a load in records per second, with a decision every `every` seconds.
    pub(crate) fn run(&mut self, seconds: f64, every: f64, load: impl Fn(f64) -> f64) {
        let begin = self.now;
        let mut next_decision = self.now;
        let mut noise = 1.0;
        let total: f64 = self.parts.iter().map(|p| p.weight).sum();
        while self.now < begin + seconds {
            if (self.now.fract()).abs() < 1e-6 {
                noise = 1.0 + self.noise * (self.uniform() + self.uniform() + self.uniform() - 1.5) * 2.0;
            }
            let arrivals = load(self.now - begin) * noise * STEP;
            self.arrived += arrivals;
            self.now += STEP;
            self.assign_if_needed();
            for part in &mut self.parts {
                part.end += arrivals * part.weight / total;
                part.log.push((self.now, part.end));
            }
            self.work();
            self.count_late();
            self.worker_seconds += self.pods.len() as f64 * STEP;
            if ((self.now / self.commit_every).floor() - ((self.now - STEP) / self.commit_every).floor()) > 0.5 {
                self.parts.iter_mut().for_each(|p| p.committed = p.position.floor());
            }
            if self.now >= next_decision {
                next_decision += every;
                self.decide();
            }
        }
    }

    fn assign_if_needed(&mut self) {
        let newly = self.pods.iter().any(|p| p.ready_at <= self.now && p.ready_at > self.now - STEP);
        let lost = self.parts.iter().any(|p| p.owner.is_none_or(|o| !self.pods.iter().any(|pod| pod.id == o)));
        if newly || lost {
            self.assign(false);
        }
    }

    fn work(&mut self) {
        let jitter = 1.0 + 0.05 * (self.uniform() - 0.5);
        for index in 0..self.pods.len() {
            let id = self.pods[index].id;
            let mut left = self.mu * STEP * jitter;
            let mine = |p: &&mut Part| p.owner == Some(id) && p.paused_until <= self.now;
            // Partitions share the capacity equally, and what one does not need goes to the others.
            for _ in 0..3 {
                let hungry = self.parts.iter_mut().filter(mine).filter(|p| p.end - p.position > 1e-6).count().max(1);
                let share = left / hungry as f64;
                for part in self.parts.iter_mut().filter(mine) {
                    let done = (part.end - part.position).min(share).max(0.0);
                    part.position += done;
                    left -= done;
                    self.pods[index].processed += done;
                }
            }
            self.pods[index].busy += (1.0 - left / (self.mu * STEP * jitter)) * STEP;
        }
    }

    fn count_late(&mut self) {
        let deadline = self.now - self.settings.latency.0;
        for part in &mut self.parts {
            let due = part.log.iter().take_while(|l| l.0 <= deadline).count();
            if due > 1 {
                let (from, to) = (part.log[0].1, part.log[due - 1].1);
                self.due += to - from;
                self.late += (to - part.position.max(from)).max(0.0);
                part.log.drain(..due - 1);
            }
        }
    }

    pub(crate) fn observation(&self) -> Observation {
        let everything = self.reported == Reported::Everything;
        let partitions = self.parts.iter().enumerate().map(|(index, p)| Partition {
            id: format!("t/{index}"),
            end: Some(p.end.floor() as i64),
            committed: Some(p.committed as i64),
            position: everything.then_some(p.position.floor() as i64),
            owner: p.owner.map(|o| format!("w-{o}")),
            ..Partition::default()
        });
        let workers = self.pods.iter().map(|p| Worker {
            id: format!("w-{}", p.id),
            at: Some(Seconds(self.now)),
            created_at: Some(Seconds(p.created)),
            started_at: Some(Seconds(p.created + 0.5)),
            ready: Some(p.ready_at <= self.now),
            template: Some(p.template.into()),
            processed: (everything && p.ready_at <= self.now).then_some(p.processed),
            busy_seconds: (everything && p.ready_at <= self.now).then_some(p.busy),
            ..Worker::default()
        });
        Observation {
            at: Seconds(self.now),
            replicas: Replicas {
                desired: Some(self.desired),
                existing: Some(self.pods.len() as u32),
                ready: Some(self.pods.iter().filter(|p| p.ready_at <= self.now).count() as u32),
            },
            partitions: match &self.frozen {
                _ if self.outage => vec![],
                Some(frozen) => frozen.clone(),
                None => partitions.collect(),
            },
            groups: vec![Group {
                source: None,
                state: Some("Stable".into()),
                assignor: Some("cooperative-sticky".into()),
                ..Group::default()
            }],
            workers: workers.collect(),
            sources: self.sources.clone(),
            ..Observation::default()
        }
    }

    pub(crate) fn decide(&mut self) {
        let observation = self.observation();
        let decision = super::decide(&mut self.memory, &observation, &self.settings);
        if let Some(desired) = decision.desired.filter(|d| *d != self.desired) {
            if std::env::var("SLUICE_TRACE").is_ok() {
                println!(
                    "{:9.2} {} {:?} {:?}",
                    self.now - 1.764e9,
                    decision.message,
                    decision.explain,
                    decision.limited
                );
            }
            self.changes.push((self.now, self.desired, decision.clone()));
            self.desired = desired;
            self.start_pods();
        }
        self.last = Some(decision);
    }

    pub(crate) fn late_share(&self) -> f64 {
        self.late / self.due.max(1.0)
    }

    /// Returns the worker-seconds as a multiple of the least that the records take.
    pub(crate) fn cost(&self) -> f64 {
        self.worker_seconds / (self.arrived / self.mu)
    }
}

impl std::fmt::Debug for Plant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "plant at {:.2} with {} workers", self.now - 1.764e9, self.desired)
    }
}
