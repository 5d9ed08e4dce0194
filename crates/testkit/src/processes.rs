//! Helpers for tests of the binary: temporary folders, and the system's list of processes.

use std::path::PathBuf;
use std::time::Duration;

/// Timeout that is longer than any step of these tests takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// A temporary folder of one test, which is removed when this is dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Returns a text that is in the command line or the environment of this test's processes only.
    pub fn mark(&self) -> String {
        self.0.file_name().unwrap().to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns ids and command lines of the processes whose command line or environment contains `mark`.
pub fn processes(mark: &str) -> Vec<(i32, String)> {
    let own = i32::try_from(std::process::id()).unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let named = entries.filter_map(|entry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let read = |what| {
            let text = std::fs::read(entry.path().join(what)).ok()?;
            Some(String::from_utf8_lossy(&text).replace('\0', " "))
        };
        let (line, environment) = (read("cmdline")?, read("environ").unwrap_or_default());
        (id != own && (line.contains(mark) || environment.contains(mark))).then_some((id, line))
    });
    named.collect()
}

/// Waits until no process contains `mark`. It polls, because the system reports the end of child processes only.
pub async fn until_none(mark: &str) {
    let gone = async {
        while !processes(mark).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, gone).await;
    assert!(waited.is_ok(), "processes still running: {:?}", processes(mark));
}
