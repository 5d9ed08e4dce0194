//! The logs of containers, as a kubelet keeps them: a folder for each pod and container, a file for each run of the
//! container, and a line `TIME STREAM TAG TEXT` for each line of output.

mod lines;
mod write;

use std::path::{Path, PathBuf};

pub use self::lines::{Line, LogOptions, last, parse, read};
pub use self::write::LogWriter;

/// The folder of all logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs(PathBuf);

impl Logs {
    /// Creates the layout below `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Returns the folder of all logs.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Returns the folder of a pod. Kubernetes names and uids contain no characters that a path must not have.
    pub fn pod(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.0.join(format!("{namespace}_{name}_{uid}"))
    }

    /// Returns the log file of a container's run. The first run is run 0.
    pub fn file(pod: &Path, container: &str, run: i32) -> PathBuf {
        pod.join(container).join(format!("{run}.log"))
    }

    /// Returns the file of the older half of a log.
    pub fn older(file: &Path) -> PathBuf {
        file.with_extension("log.1")
    }
}
