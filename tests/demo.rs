//! `sluice demo` as a process: what only the real program can show. It meets its target with workers that are processes,
//! and leaves nothing behind, be it interrupted or killed.
#![cfg(all(target_os = "linux", feature = "demo"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy allows them in tests, but not in what tests of a whole file share"
)]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// A folder of the test's own, which the demo takes for the system's temporary one.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-test-demo-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// What demos have left.
    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| !path.ends_with("out")).collect()
    }

    /// The processes that run for it: each has the folder in its environment.
    fn processes(&self) -> usize {
        let mark = format!("TMPDIR={}", self.0.display()).into_bytes();
        let has_mark = |environment: Vec<u8>| environment.split(|byte| *byte == 0).any(|entry| entry == mark);
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| std::fs::read(entry.path().join("environ")).ok())
            .filter(|e| has_mark(e.clone()))
            .count()
    }

    async fn until_no_process_is_left(&self) {
        let gone = async {
            // Of processes of others the system tells no end.
            while self.processes() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("processes are left");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A demo that runs.
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

    async fn until_it_says(&mut self, words: &str) {
        let said = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it has ended without a word of {words:?}");
        };
        tokio::time::timeout(PATIENCE, said).await.unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Its exit code; none if a signal has ended it.
    async fn end(mut self) -> Option<i32> {
        let rest = async { while self.lines.next_line().await.unwrap().is_some() {} };
        tokio::time::timeout(PATIENCE, rest).await.unwrap();
        self.child.wait().await.unwrap().code()
    }
}

#[tokio::test]
async fn a_demo_meets_its_target_in_spite_of_a_poisoned_batch_and_says_so() {
    let folder = Folder::new("whole");
    let demo = Demo::start(&folder, &["--scenario", "poison"]);
    let code = demo.end().await;
    let report = std::fs::read_to_string(folder.0.join("out/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report["met"]), (Some(0), &Value::Bool(true)), "{:#}", report["missed"]);
    assert!(report["work"]["skipped"].as_u64().unwrap() > 0, "{:#}", report["work"]);
    let page = std::fs::read_to_string(folder.0.join("out/report.html")).unwrap();
    assert!(page.contains("Met the target") && page.contains("<svg"));
    assert!(folder.left().is_empty(), "{:?}", folder.left());
    folder.until_no_process_is_left().await;
}

#[tokio::test]
async fn nothing_is_left_of_a_demo_that_was_interrupted_or_killed() {
    let folder = Folder::new("end");
    let mut demo = Demo::start(&folder, &[]);
    demo.until_it_says("the first worker is ready").await;
    assert!(folder.processes() > 1);
    demo.signal(Signal::KILL);
    assert_eq!(demo.end().await, None);
    folder.until_no_process_is_left().await;
    let left = folder.left();
    assert_eq!(left.len(), 1, "a killed process cannot remove its folder: {left:?}");

    let mut demo = Demo::start(&folder, &[]);
    demo.until_it_says("the first worker is ready").await;
    assert!(!left[0].exists(), "the next one does");
    demo.signal(Signal::INT);
    assert_eq!(demo.end().await, Some(130));
    assert!(folder.left().is_empty(), "{:?}", folder.left());
    folder.until_no_process_is_left().await;
}
