//! A container's process as the node controls it: started under a supervisor, and ended by orders to the supervisor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::supervise::{COMMAND, protocol};

/// The exit code of a process that signal 9 ended, by the convention of shells.
const KILLED: i32 = 137;
/// The exit code of a process that a signal ended is this number plus the signal's.
const SIGNALS: i32 = 128;

/// The program to run, and its surroundings.
#[derive(Debug, Clone)]
pub(super) struct ProcessSpec {
    pub(super) command: Vec<String>,
    /// The whole environment: none of the node's own variables are added.
    pub(super) env: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) log: PathBuf,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    /// Kept so that the runtime reaps the supervisor when it ends.
    _supervisor: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
    group: i32,
}

impl Process {
    /// Starts the process. The error is for the pod's status, and tells what failed.
    pub(super) async fn start(supervisor: &Path, spec: &ProcessSpec) -> Result<Self, String> {
        let program = spec.command.first().ok_or("the container has no command")?;
        check(program, spec)?;
        let mut command = Command::new(supervisor);
        command
            .args([COMMAND, "run", "--log"])
            .arg(&spec.log)
            .arg("--")
            .args(&spec.command)
            .env_clear()
            .envs(&spec.env)
            .current_dir(&spec.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Outside the terminal's process group, so that Ctrl-C reaches only the node, which stops the containers
            // in order.
            .process_group(0);
        let mut child = command.spawn().map_err(|error| format!("failed to start the supervisor: {error}"))?;
        let (Some(orders), Some(reports)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("failed to start the supervisor: it has no pipes".to_owned());
        };
        let mut reports = BufReader::new(reports).lines();
        let first = reports.next_line().await.ok().flatten().unwrap_or_default();
        match first.split_once(' ') {
            Some((protocol::STARTED, group)) => {
                let group = group.parse().unwrap_or_default();
                Ok(Self { _supervisor: child, orders, reports, group })
            }
            Some((protocol::FAILED, why)) => Err(why.to_owned()),
            _ => Err("the supervisor ended before it started the container".to_owned()),
        }
    }

    /// Asks the process to end.
    pub(super) async fn terminate(&mut self) {
        self.send_order(protocol::TERMINATE).await;
    }

    /// Kills the process.
    pub(super) async fn kill(&mut self) {
        self.send_order(protocol::KILL).await;
    }

    async fn send_order(&mut self, word: &str) {
        // A supervisor that does not read has ended, and all processes of the container with it.
        let _ = self.orders.write_all(format!("{word}\n").as_bytes()).await;
    }

    /// Waits until the process has ended, and returns its exit code. Safe to cancel and call again.
    pub(super) async fn ended(&mut self) -> i32 {
        let line = self.reports.next_line().await.ok().flatten().unwrap_or_default();
        let number = |text: &str| text.parse::<i32>().unwrap_or(KILLED);
        match line.split_once(' ') {
            Some((protocol::EXITED, code)) => number(code),
            Some((protocol::SIGNALED, signal)) => SIGNALS + number(signal),
            _ => {
                // The supervisor was killed. The container's process ended with it; processes that it had started are
                // left.
                if let Some(group) = rustix::process::Pid::from_raw(self.group.max(0)) {
                    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                KILLED
            }
        }
    }
}

/// Checks in advance what would make the start fail, as a container runtime does.
fn check(program: &str, spec: &ProcessSpec) -> Result<(), String> {
    if !spec.directory.is_dir() {
        let directory = spec.directory.display();
        return Err(format!(
            "working directory {directory:?} does not exist on this machine, on which the process is to run"
        ));
    }
    let runs = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let path = spec.directory.join(program);
        return if runs(&path) { Ok(()) } else { Err(format!("exec: {program:?}: no such file, or not executable")) };
    }
    let path = spec.env.get("PATH").map(String::as_str).unwrap_or_default();
    if path.split(':').any(|folder| runs(&Path::new(folder).join(program))) {
        Ok(())
    } else {
        Err(format!("exec: {program:?}: executable file not found in $PATH"))
    }
}
