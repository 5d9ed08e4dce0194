//! A container's process, as the node sees it: started under a supervisor, ended by orders to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::supervise::{COMMAND, words};

/// The exit code of a process that signal 9 has ended, by the convention of shells.
const KILLED: i32 = 137;
/// The exit codes of processes that a signal has ended begin here.
const SIGNALS: i32 = 128;

/// What is to be run.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) command: Vec<String>,
    /// The whole environment: nothing of the node's own is added.
    pub(super) env: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) log: PathBuf,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Process {
    /// Kept for its end to be noticed by the runtime.
    _supervisor: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
    group: i32,
}

impl Process {
    /// Starts it. The error says what could not be done, in words for the pod's status.
    pub(super) async fn start(supervisor: &Path, order: &Order) -> Result<Self, String> {
        let program = order.command.first().ok_or("there is no command to run")?;
        check(program, order)?;
        let mut command = Command::new(supervisor);
        command
            .args([COMMAND, "run", "--log"])
            .arg(&order.log)
            .arg("--")
            .args(&order.command)
            .env_clear()
            .envs(&order.env)
            .current_dir(&order.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Out of the terminal's group: Ctrl-C comes to the node alone, which stops the others in order.
            .process_group(0);
        let mut child = command.spawn().map_err(|error| format!("failed to start its supervisor: {error}"))?;
        let (Some(orders), Some(reports)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("failed to start its supervisor: it has no pipes".to_owned());
        };
        let mut reports = BufReader::new(reports).lines();
        let first = reports.next_line().await.ok().flatten().unwrap_or_default();
        match first.split_once(' ') {
            Some((words::STARTED, group)) => {
                let group = group.parse().unwrap_or_default();
                Ok(Self { _supervisor: child, orders, reports, group })
            }
            Some((words::FAILED, why)) => Err(why.to_owned()),
            _ => Err("its supervisor ended before it could start it".to_owned()),
        }
    }

    /// Asks it to end.
    pub(super) async fn terminate(&mut self) {
        self.order(words::TERMINATE).await;
    }

    /// Makes it end.
    pub(super) async fn kill(&mut self) {
        self.order(words::KILL).await;
    }

    async fn order(&mut self, word: &str) {
        // A supervisor that does not read has ended, and with it everything.
        let _ = self.orders.write_all(format!("{word}\n").as_bytes()).await;
    }

    /// Waits for its end: its exit code. May be given up and called again.
    pub(super) async fn ended(&mut self) -> i32 {
        let line = self.reports.next_line().await.ok().flatten().unwrap_or_default();
        let number = |text: &str| text.parse::<i32>().unwrap_or(KILLED);
        match line.split_once(' ') {
            Some((words::EXITED, code)) => number(code),
            Some((words::SIGNALED, signal)) => SIGNALS + number(signal),
            _ => {
                // Somebody has killed the supervisor. Its process went with it; what that had started is left.
                if let Some(group) = rustix::process::Pid::from_raw(self.group.max(0)) {
                    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                KILLED
            }
        }
    }
}

/// Says beforehand what would go wrong, as a container runtime does.
fn check(program: &str, order: &Order) -> Result<(), String> {
    if !order.directory.is_dir() {
        let directory = order.directory.display();
        return Err(format!("working directory {directory:?} is not there: this node runs processes on this machine"));
    }
    let runs = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let path = order.directory.join(program);
        return if runs(&path) { Ok(()) } else { Err(format!("exec: {program:?}: no such file, or not executable")) };
    }
    let path = order.env.get("PATH").map(String::as_str).unwrap_or_default();
    if path.split(':').any(|folder| runs(&Path::new(folder).join(program))) {
        Ok(())
    } else {
        Err(format!("exec: {program:?}: executable file not found in $PATH"))
    }
}
