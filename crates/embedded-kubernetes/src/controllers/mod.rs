//! The controllers, one file each. The scheduler runs beside them.
//!
//! Each controller is a task that reads the current state of one object, acts, and waits for the next change
//! (`drive.rs`). It needs no memory of its actions: it continues from any state in which it is started. Controllers
//! use the server like any client, through [`Actor`], and do not know each other.
//!
//! On a current-thread runtime with paused time, their actions depend only on the seed of the server: queues are in
//! the order of keys, and of several ready tasks the first is chosen.

mod accounts;
mod condition;
mod deployment;
mod disruption;
mod drive;
mod events;
mod expiry;
mod garbage;
mod job;
mod namespace;
mod pods;
mod quota;
mod replicaset;
mod scaled;
mod statefulset;
mod stranded;
#[cfg(test)]
pub(super) mod tests;
mod victims;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use drive::Pace;
pub(super) use drive::{Controller, Next};
pub(super) use events::{Severity, record_event};

use super::api::{Actor, Server};
use super::kinds::Resource;
use super::scheduler::Scheduler;

/// The field manager of all controllers, as in a real cluster.
const MANAGER: &str = "kube-controller-manager";

/// The running controllers and scheduler of a server.
#[derive(Debug)]
pub struct Controllers {
    tasks: TaskTracker,
}

impl Controllers {
    /// Starts all controllers. They end when `cancel` is cancelled.
    pub fn start(server: &Server, pace: Pace, cancel: &CancellationToken) -> Self {
        let running = Running { tasks: TaskTracker::new(), server, pace, cancel };
        running.add(namespace::Namespaces, MANAGER, 1);
        running.add(accounts::Accounts, MANAGER, 2);
        running.add(garbage::Garbage::default(), MANAGER, 3);
        running.add(deployment::Deployments, MANAGER, 4);
        running.add(replicaset::ReplicaSets, MANAGER, 5);
        running.add(statefulset::StatefulSets, MANAGER, 6);
        running.add(job::Jobs, MANAGER, 7);
        running.add(disruption::Budgets, MANAGER, 8);
        running.add(quota::Quotas, MANAGER, 9);
        running.add(stranded::Stranded::default(), MANAGER, 10);
        running.add(expiry::Expiry, "kube-apiserver", 11);
        running.add(Scheduler::default(), "kube-scheduler", 12);
        running.tasks.close();
        Self { tasks: running.tasks }
    }

    /// Waits until all controllers have ended.
    pub async fn ended(self) {
        self.tasks.wait().await;
    }
}

struct Running<'a> {
    tasks: TaskTracker,
    server: &'a Server,
    pace: Pace,
    cancel: &'a CancellationToken,
}

impl Running<'_> {
    fn add(&self, controller: impl Controller, name: &'static str, number: u64) {
        let actor = Actor::new(self.server.clone(), name);
        // Each controller has its own random delays, whatever the others do.
        let pace = self.pace.for_controller(number);
        self.tasks.spawn(drive::drive(controller, actor, pace, self.cancel.clone()));
    }
}

fn core(plural: &str) -> Resource {
    Resource::new("", plural)
}

fn apps(plural: &str) -> Resource {
    Resource::new("apps", plural)
}
