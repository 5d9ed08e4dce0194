//! The commands that the demo runs beside itself: the operator and the load.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::Failure;

/// Lines of a log that are shown when its writer has failed.
const TAIL: usize = 12;

/// A running `sluice` command with a log of its own.
#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    log: PathBuf,
    process: tokio::process::Child,
}

impl Child {
    /// Starts this very binary with the arguments; the first one is the command.
    pub(super) fn start(
        name: &'static str,
        arguments: impl IntoIterator<Item = OsString>,
        log: PathBuf,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| format!("failed to find this program: {error}"))?;
        let file = File::create(&log).map_err(|error| format!("failed to write {}: {error}", log.display()))?;
        let again = file.try_clone().map_err(|error| format!("failed to write {}: {error}", log.display()))?;
        let process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            // Out of the terminal's group: Ctrl-C comes to the demo alone, which stops the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("failed to start the {name}: {error}"))?;
        Ok(Self { name, log, process })
    }

    /// Until it has ended by itself.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        self.process.wait().await.map_err(|error| format!("failed to wait for the {}: {error}", self.name).into())
    }

    /// An error, with the end of its log, if it has ended.
    pub(super) fn must_run(&mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!(
                "the {} has ended ({status}); the end of {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log)
            )
            .into()),
            Err(error) => Err(format!("failed to look after the {}: {error}", self.name).into()),
        }
    }

    /// Asks it to end, and makes it after `patience`.
    pub(super) async fn stop(mut self, patience: Duration) {
        // It has not been waited for, so its id cannot have gone to another process.
        if let Some(id) = self.process.id() {
            // Signals have no safe function in std; the shell's own `kill` is there wherever a shell is.
            let asked = Command::new("sh").args(["-c", r#"kill -TERM "$0""#, &id.to_string()]).status().await;
            if asked.is_ok_and(|status| status.success())
                && tokio::time::timeout(patience, self.process.wait()).await.is_ok()
            {
                return;
            }
            if self.process.kill().await.is_err() {
                super::say(&format!("the {} (process {id}) could not be stopped", self.name));
            }
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last: Vec<&str> = lines.iter().skip(lines.len().saturating_sub(TAIL)).copied().collect();
    format!("  {}", last.join("\n  "))
}
