//! Threads of the hub's own. krafka decodes an answer of some MiB without a pause, and takes 0.2 s for the list of 200,000
//! partitions in which a cluster tells of all its topics: a thread that does so does nothing else, and who decides on jobs must
//! not wait for it.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// More than there are processors in most pods, so that a cluster whose answers are small has a thread while others decode large
/// ones: among threads the system divides the time evenly.
const NUMBER: usize = 4;

/// They end when this is dropped, without waiting for what is under way.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    /// `Some` until it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// Fails if the system gives no threads.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(NUMBER).thread_name("sources").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // The last who has the hub may be a task on one of them, which cannot wait for itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
