//! The supervisor: the small process between the node and a container's process. It copies the container's output to
//! its log, reports how it ended, and kills it when the node ends for any reason.
//!
//! The node holds a pipe to the supervisor. Each line that arrives is an order; the end of the pipe is the last one:
//! kill everything. Linux also closes the pipe of a node that was killed. The container runs in a process group of its
//! own, and the supervisor kills that group. Processes that have left the group become children of the supervisor when
//! their parent ends, and are killed as well. If the supervisor itself is killed, the system kills the container's
//! process too: the process asked for that before it became the container (`exec`), so that no code has to run after a
//! fork.

use std::io::{self, BufRead as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use crate::logs::LogWriter;
use sluice_base::clock::Clock;

/// The first argument of a supervisor, which is also the name of the hidden command.
pub const COMMAND: &str = "__supervise";
/// The interval between searches for processes that have left the group, and the most searches.
const SWEEP: (Duration, u32) = (Duration::from_millis(10), 500);
/// The exit code of a shell that does not find a program.
const NOT_FOUND: u8 = 127;

/// The orders and reports, one on each line.
pub mod protocol {
    /// Order: ask the group to end.
    pub const TERMINATE: &str = "terminate";
    /// Order: kill the group.
    pub const KILL: &str = "kill";
    /// Report: the container runs; followed by the number of its process group.
    pub const STARTED: &str = "started";
    /// Report: the container has ended by itself; followed by its exit code.
    pub const EXITED: &str = "exited";
    /// Report: a signal has ended the container; followed by the signal's number.
    pub const SIGNALED: &str = "signaled";
    /// Report: the container could not be started; followed by the reason.
    pub const FAILED: &str = "failed";
}

/// What the hidden command does.
#[derive(Debug, clap::Subcommand)]
pub enum SupervisorCommand {
    /// Run a program under orders from stdin, with reports to stdout.
    Run {
        /// The file that the program's output is written to.
        #[arg(long)]
        log: PathBuf,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Become a program that ends with its parent.
    Exec {
        /// The process id of the parent.
        #[arg(long)]
        parent: u32,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// Runs the supervisor or the exec step, and returns its exit code.
pub fn supervise(command: &SupervisorCommand) -> ExitCode {
    match command {
        SupervisorCommand::Run { log, command } => run(log, command),
        SupervisorCommand::Exec { parent, command } => exec(*parent, command),
    }
}

/// Returns the program that this process runs, even if its file has been replaced since it started.
pub fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// Becomes the program. Returns only if that fails.
fn exec(parent: u32, command: &[String]) -> ExitCode {
    #[cfg(target_os = "linux")]
    {
        let asked = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        // The parent may have ended between starting this process and this request.
        let orphan = rustix::process::getppid().is_none_or(|now| u32::try_from(now.as_raw_pid()) != Ok(parent));
        if asked.is_err() || orphan {
            return ExitCode::FAILURE;
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("failed to start {program}: {error}");
    ExitCode::from(NOT_FOUND)
}

fn report(word: &str, with: impl std::fmt::Display) {
    // A node that has ended reads no reports, so a failure to write one is ignored.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{word} {with}").and_then(|()| out.flush());
}

/// The process group of the container. `None` once the container has been waited for, because its number may then
/// belong to another process.
struct Group(Mutex<Option<Pid>>);

impl Group {
    fn signal(&self, signal: Signal) {
        let pid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *pid {
            // It fails only if no process of the group is left.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

fn run(log: &Path, command: &[String]) -> ExitCode {
    match start(log, command) {
        Ok((child, writer)) => {
            let ended = attend(child, &Arc::new(writer));
            match ended {
                Ok(status) => match (status.code(), status.signal()) {
                    (Some(code), _) => report(protocol::EXITED, code),
                    (None, signal) => report(protocol::SIGNALED, signal.unwrap_or_default()),
                },
                Err(error) => report(protocol::FAILED, format!("failed to wait for the container: {error}")),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(protocol::FAILED, error);
            ExitCode::FAILURE
        }
    }
}

fn start(log: &Path, command: &[String]) -> io::Result<(Child, LogWriter)> {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let writer = LogWriter::open(log, Clock::system())?;
    let child = Command::new(own_program()?)
        .args([COMMAND, "exec", "--parent", &std::process::id().to_string(), "--"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    Ok((child, writer))
}

/// Watches over a container until it, and every process that it started, is gone.
fn attend(mut child: Child, log: &Arc<LogWriter>) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(&child);
    let group = Arc::new(Group(Mutex::new(Some(pid))));
    report(protocol::STARTED, pid.as_raw_pid());
    let orders = Arc::clone(&group);
    std::thread::spawn(move || follow_orders(&orders));
    let mut copies = Vec::new();
    if let Some(out) = child.stdout.take() {
        let log = Arc::clone(log);
        copies.push(std::thread::spawn(move || log.copy("stdout", out)));
    }
    if let Some(err) = child.stderr.take() {
        let log = Arc::clone(log);
        copies.push(std::thread::spawn(move || log.copy("stderr", err)));
    }
    // The process is not reaped yet, so that the number of its group stays reserved while the rest of the group is
    // killed.
    while let Err(error) = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    group.signal(Signal::KILL);
    *group.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let status = child.wait()?;
    sweep();
    for copy in copies {
        // How the container ended is reported even if its log could not be written to the end.
        let _ = copy.join();
    }
    Ok(status)
}

fn follow_orders(group: &Group) {
    for order in io::stdin().lock().lines() {
        match order.as_deref() {
            Ok(protocol::TERMINATE) => group.signal(Signal::TERM),
            Ok(protocol::KILL) => group.signal(Signal::KILL),
            _ => break,
        }
    }
    group.signal(Signal::KILL);
}

/// Kills processes that have left the group and are now children of the supervisor, until none is left.
fn sweep() {
    let (pause, times) = SWEEP;
    for _ in 0..times {
        for pid in children() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(pause),
            // No child is left.
            Err(_) => return,
        }
    }
}

fn children() -> Vec<Pid> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids: Vec<i32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    pids.into_iter().filter(|pid| *pid > 0).filter_map(Pid::from_raw).collect()
}
