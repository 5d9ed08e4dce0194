//! Where the logs of containers are, and how they are written: as a kubelet keeps them, a folder for each pod and
//! container, a file for each run of the container, a line `TIME STREAM TAG TEXT` for each line.

mod lines;
mod write;

use std::path::{Path, PathBuf};

pub use self::lines::{Line, Wanted, last, parse, read};
pub use self::write::Writer;

/// The folder of all logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs(PathBuf);

impl Logs {
    /// Logs in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The folder of a pod. Names and uids of Kubernetes have nothing in them that a path must not have.
    pub fn pod(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.0.join(format!("{namespace}_{name}_{uid}"))
    }

    /// The log of a container's run: the first one is run 0.
    pub fn file(pod: &Path, container: &str, run: i32) -> PathBuf {
        pod.join(container).join(format!("{run}.log"))
    }

    /// Where the older half of a log is.
    pub fn older(file: &Path) -> PathBuf {
        file.with_extension("log.1")
    }
}
