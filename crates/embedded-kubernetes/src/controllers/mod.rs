//! What acts on objects by itself: the controllers, one file each, and the scheduler beside them.
//!
//! Each is a task of its own that looks at the present state of one object, acts, and waits for the next change
//! (`drive.rs`). None has to remember what it has done: whatever state it is started in, it goes on from there. They know
//! the server as any client does, by [`Actor`], and know nothing of each other.
//!
//! On a current-thread runtime with paused time, what they do depends on the seed of the server and on nothing else:
//! every queue is in the order of keys, and every choice between ready things takes the first.

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
pub(super) use events::{Severity, record};

use super::api::{Actor, Server};
use super::kinds::Resource;
use super::scheduler::Scheduler;

/// The field manager of all controllers, as in a real cluster.
const MANAGER: &str = "kube-controller-manager";

/// The controllers and the scheduler of a server, running.
#[derive(Debug)]
pub struct Controllers {
    tasks: TaskTracker,
}

impl Controllers {
    /// Starts them all. They end when `cancel` is cancelled.
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

    /// Waits until all have ended.
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
        // Each has delays of its own, whatever the others do.
        let pace = self.pace.of(number);
        self.tasks.spawn(drive::drive(controller, actor, pace, self.cancel.clone()));
    }
}

fn core(plural: &str) -> Resource {
    Resource::new("", plural)
}

fn apps(plural: &str) -> Resource {
    Resource::new("apps", plural)
}
