//! Pods: created, started, killed, removed, billed.

use super::random::Random;
use super::scenario::Scenario;

/// One pod.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    /// Unique number of the pod.
    pub(crate) uid: u32,
    /// Time of creation, seconds since the load began; negative: before it.
    pub(crate) created: f64,
    /// When its process starts, seconds.
    pub(crate) started: f64,
    /// When it is ready, seconds; infinite while it waits for a node or crashes.
    pub(crate) ready_at: f64,
    /// Whether it has partitions, or would have if there were enough.
    pub(crate) joined: bool,
    /// Whether a node has room for it.
    pub(crate) scheduled: bool,
    /// Whether it crash-loops.
    pub(crate) crashing: bool,
    /// Version of the job that it runs.
    pub(crate) version: u32,
    /// Constant speed factor of this pod.
    pub(crate) speed: f64,
    /// Speed factor that varies over time.
    pub(crate) wander: f64,
    /// Records processed.
    pub(crate) processed: f64,
    /// Records processed in time.
    pub(crate) in_time: f64,
    /// Time not spent waiting for input, seconds.
    pub(crate) busy: f64,
    /// CPU time, seconds.
    pub(crate) cpu: f64,
    /// Time of its next commit, seconds.
    pub(crate) commits_at: f64,
    /// Until when it is billed after its removal, seconds.
    pub(crate) gone_at: f64,
}

/// All pods, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Pods {
    /// Pods that are wanted.
    pub(crate) live: Vec<Pod>,
    /// Pods that are terminating.
    pub(crate) leaving: Vec<Pod>,
    random: Random,
    next: u32,
    /// Current version of the job.
    pub(crate) version: u32,
}

impl Pods {
    /// Returns `count` pods that have been ready for some time.
    pub(crate) fn new(scenario: &Scenario, count: u32) -> Self {
        let random = Random::new(scenario.seed, 3);
        let mut pods = Self { live: Vec::new(), leaving: Vec::new(), random, next: 0, version: 0 };
        for _ in 0..count {
            pods.make(scenario, -100.0);
            if let Some(pod) = pods.live.last_mut() {
                pod.ready_at = 0.0;
                pod.commits_at += 100.0;
            }
        }
        pods
    }

    fn make(&mut self, scenario: &Scenario, now: f64) {
        let start_up = scenario.start_up * (scenario.start_up_spread * self.random.normal()).exp();
        self.live.push(Pod {
            uid: self.next,
            created: now,
            started: now + start_up / 2.0,
            ready_at: now + start_up,
            joined: false,
            scheduled: true,
            crashing: false,
            version: self.version,
            speed: (1.0 + scenario.speed_spread * self.random.normal()).max(0.1),
            wander: scenario.speed_noise * self.random.normal(),
            processed: 0.0,
            in_time: 0.0,
            busy: 0.0,
            cpu: 0.0,
            commits_at: now + scenario.commit_every * self.random.uniform(),
            gone_at: f64::INFINITY,
        });
        self.next += 1;
    }

    /// Creates or removes pods until their number is the wanted one, like a `ReplicaSet`: pods that are not ready are
    /// removed first, then the newest. Returns whether one that had partitions was removed.
    pub(crate) fn follow(&mut self, scenario: &Scenario, wanted: u32, now: f64) -> bool {
        let quota = scenario.faults.quota.and_then(|q| q.at(now)).unwrap_or(u32::MAX);
        let mut removed = false;
        while self.live.len() > wanted as usize {
            let last = self.live.len() - 1;
            let index = self.live.iter().rposition(|pod| !pod.joined).unwrap_or(last);
            removed |= self.remove(index, now + scenario.removal);
        }
        while self.live.len() < wanted.min(quota) as usize {
            self.make(scenario, now);
        }
        removed
    }

    /// Removes a pod, billed until `gone_at`. Returns whether it had partitions.
    pub(crate) fn remove(&mut self, index: usize, gone_at: f64) -> bool {
        let mut pod = self.live.remove(index);
        let joined = pod.joined;
        pod.gone_at = gone_at;
        self.leaving.push(pod);
        joined
    }

    /// Schedules pods onto nodes as far as there is room.
    pub(crate) fn schedule(&mut self, scenario: &Scenario, now: f64) {
        let Some(limit) = scenario.faults.unschedulable else { return };
        let nodes = limit.at(now).unwrap_or(u32::MAX) as usize;
        let mut used = self.live.iter().filter(|pod| pod.scheduled && pod.created < now).count();
        for pod in &mut self.live {
            let fits = used < nodes;
            if pod.created >= now && !fits {
                pod.scheduled = false;
                (pod.started, pod.ready_at) = (f64::INFINITY, f64::INFINITY);
            } else if pod.created >= now {
                used += 1;
            } else if !pod.scheduled && fits {
                used += 1;
                pod.scheduled = true;
                pod.started = now + scenario.start_up / 2.0;
                pod.ready_at = now + scenario.start_up;
            }
        }
    }

    /// Lets the newest pods crash, as many as the fault states; pods that crashed and no longer have to start again.
    /// Returns the `uid`s of crashed pods that had partitions.
    pub(crate) fn crash(&mut self, scenario: &Scenario, now: f64) -> Vec<u32> {
        let Some(fault) = scenario.faults.crash_loop else { return Vec::new() };
        let wanted = fault.at(now).unwrap_or(0) as usize;
        let mut lost = Vec::new();
        let mut crashing = self.live.iter().filter(|pod| pod.crashing).count();
        for pod in self.live.iter_mut().rev() {
            if pod.crashing && wanted == 0 {
                pod.crashing = false;
                (pod.started, pod.ready_at) = (now, now + scenario.start_up);
            } else if pod.crashing && now - pod.started > 30.0 {
                pod.started = now;
                pod.clear();
            } else if !pod.crashing && crashing < wanted {
                crashing += 1;
                pod.crashing = true;
                pod.started = now;
                pod.ready_at = f64::INFINITY;
                pod.clear();
                if std::mem::take(&mut pod.joined) {
                    lost.push(pod.uid);
                }
            }
        }
        lost
    }

    /// Rolls out a new version, one pod at a time with a surge: the oldest pod of the old version is removed when a new
    /// one is ready. Returns whether one that had partitions was removed.
    pub(crate) fn roll(&mut self, scenario: &Scenario, now: f64) -> bool {
        if scenario.faults.deploy.is_none_or(|deploy| now < deploy.at) {
            return false;
        }
        if self.version == 0 {
            self.version = 1;
            self.make(scenario, now);
            return false;
        }
        let Some(old) = self.live.iter().position(|pod| pod.version < self.version) else { return false };
        if self.live.iter().any(|pod| pod.version == self.version && !pod.joined) {
            return false;
        }
        let removed = self.remove(old, now + scenario.removal);
        if self.live.iter().any(|pod| pod.version < self.version) {
            self.make(scenario, now);
        }
        removed
    }

    /// Returns the number of pods above the wanted number that a rollout has for the moment.
    pub(crate) fn surge(&self) -> u32 {
        u32::from(self.version > 0 && self.live.iter().any(|pod| pod.version < self.version))
    }

    /// Advances each worker's speed by one second (AR(1)).
    pub(crate) fn wander(&mut self, keep: f64, scatter: f64) {
        for pod in &mut self.live {
            pod.wander = pod.wander * keep + scatter * self.random.bell();
        }
    }

    /// Returns the number of ready pods.
    pub(crate) fn ready(&self) -> usize {
        self.live.iter().filter(|pod| pod.joined).count()
    }

    /// Returns the number of billed pods.
    pub(crate) fn billed(&self) -> usize {
        self.live.iter().filter(|pod| pod.scheduled).count() + self.leaving.len()
    }
}

impl Pod {
    fn clear(&mut self) {
        (self.processed, self.in_time, self.busy, self.cpu) = (0.0, 0.0, 0.0, 0.0);
    }
}
