//! Threads for the hub's own tasks.
//!
//! krafka decodes an answer of some MiB without yielding: about 0.2 s for the topic list of a cluster with 200,000
//! partitions. The thread that decodes it does nothing else, and decisions about jobs must not wait for that.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// More threads than most pods have processors, so that the small answers of one cluster are decoded while other threads
/// decode large ones: the system divides the time evenly between threads.
const THREADS: usize = 4;

/// A runtime whose threads end when this is dropped, without waiting for running tasks.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    /// `None` after the drop has begun.
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts the threads. Fails if the system cannot create them.
    pub fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_name("sources").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A task on one of these threads may hold the last reference to the hub, and it cannot wait for itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
