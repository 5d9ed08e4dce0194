//! `sluice demo` as a process: it meets its target with workers that are processes, and leaves nothing behind when it
//! is interrupted or killed.
#![cfg(all(target_os = "linux", feature = "development"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy allows them in tests, but not in what tests of a whole file share"
)]

use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use sluice_testkit::processes::{Folder, PATIENCE, processes, until_none};

/// Returns what demos have left in the folder that TMPDIR names for them.
fn leftovers(folder: &Folder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&folder.0).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| !path.ends_with("out")).collect()
}

/// A running demo.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Demo {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["demo", "--duration", "10s", "--peak", "200", "--out"]).arg(folder.0.join("out")).args(arguments);
        command.env("TMPDIR", &folder.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until the demo prints a line with this text.
    async fn wait_for_output(&mut self, text: &str) {
        let printed = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(text) {
                    return;
                }
            }
            panic!("the demo ended without printing {text:?}");
        };
        tokio::time::timeout(PATIENCE, printed).await.unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for the end of the demo and returns the exit code; `None` if a signal ended it.
    async fn exit_code(mut self) -> Option<i32> {
        let rest = async { while self.lines.next_line().await.unwrap().is_some() {} };
        tokio::time::timeout(PATIENCE, rest).await.unwrap();
        self.child.wait().await.unwrap().code()
    }
}

#[tokio::test]
async fn a_demo_with_a_corrupt_batch_meets_and_reports_its_target() {
    let folder = Folder::new("whole");
    let demo = Demo::start(&folder, &["--scenario", "poison"]);
    let code = demo.exit_code().await;
    let report = std::fs::read_to_string(folder.0.join("out/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report["met"]), (Some(0), &Value::Bool(true)), "{:#}", report["missed"]);
    assert!(report["work"]["skipped"].as_u64().unwrap() > 0, "{:#}", report["work"]);
    let page = std::fs::read_to_string(folder.0.join("out/report.html")).unwrap();
    assert!(page.contains("Met the target") && page.contains("<svg"));
    assert!(leftovers(&folder).is_empty(), "{:?}", leftovers(&folder));
    until_none(&folder.mark()).await;
}

#[tokio::test]
async fn an_interrupted_killed_or_crashed_demo_leaves_nothing() {
    let folder = Folder::new("end");
    // A process that panics while it unwinds ends by SIGABRT.
    let mut before: Vec<PathBuf> = Vec::new();
    for signal in [Signal::KILL, Signal::ABORT] {
        let mut demo = Demo::start(&folder, &[]);
        demo.wait_for_output("the first worker is ready").await;
        assert!(processes(&folder.mark()).len() > 1);
        demo.signal(signal);
        assert_eq!(demo.exit_code().await, None);
        until_none(&folder.mark()).await;
        let left = leftovers(&folder);
        assert_eq!(left.len(), 1, "only its own folder remains; it removed that of the demo before: {left:?}");
        assert!(!before.contains(&left[0]));
        before = left;
    }

    let mut demo = Demo::start(&folder, &[]);
    demo.wait_for_output("the first worker is ready").await;
    assert!(!before[0].exists(), "the next demo removes the folder");
    demo.signal(Signal::INT);
    assert_eq!(demo.exit_code().await, Some(130));
    assert!(leftovers(&folder).is_empty(), "{:?}", leftovers(&folder));
    until_none(&folder.mark()).await;
}

#[tokio::test]
async fn a_key_ends_the_screen_and_restores_the_terminal() {
    let folder = Folder::new("screen");
    let demo = format!("{} demo --out {}", env!("CARGO_BIN_EXE_sluice"), folder.0.join("out").display());
    let mut command = Command::new("script");
    command.args(["-qec", &format!("stty rows 24 cols 80; {demo}; echo code $?; stty -a"), "/dev/null"]);
    command.env("TMPDIR", &folder.0).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let (mut keys, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = String::new();
    let all = async {
        let mut piece = [0; 4096];
        loop {
            let length = shown.read(&mut piece).await.unwrap();
            if length == 0 {
                return;
            }
            // Single words, because the cursor is moved over blanks.
            let before = text.contains("cleans");
            text.push_str(&String::from_utf8_lossy(&piece[..length]));
            if !before && text.contains("cleans") {
                keys.write_all(b"q").await.unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    let (_, screen) = text.split_once("\x1b[?1049h").expect("a screen");
    let (screen, after) = screen.split_once("\x1b[?1049l").expect("the screen ends");
    assert!(screen.contains("advertisements,"), "{screen}");
    assert!(after.contains("interrupted; cleaning up") && after.contains("code 130"), "{after}");
    assert!(after.contains(" icanon") && after.contains(" echo "), "{after}");
    assert!(leftovers(&folder).is_empty(), "{:?}", leftovers(&folder));
    until_none(&folder.mark()).await;
}
