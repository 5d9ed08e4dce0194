//! The operator's process, as it is seen from its parent.

use std::io::{BufRead as _, BufReader};
use std::process::{Child as Process, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The operator's process. What it says is passed on.
pub(crate) struct Child {
    process: Process,
    lines: UnboundedReceiver<String>,
}

impl Child {
    pub(crate) fn start(arguments: &[String]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("operator")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, lines) = unbounded_channel();
        let said = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            said.lines().map_while(Result::ok).for_each(|line| {
                println!("  {line}");
                let _ = told.send(line);
            });
        });
        Self { process, lines }
    }

    /// Waits for a line that begins like this, and gives the rest of it; `None`: there was none in this time.
    pub(crate) async fn says(&mut self, begin: &str, patience: Duration) -> Option<String> {
        let line = async {
            loop {
                let line = self.lines.recv().await?;
                if let Some(rest) = line.strip_prefix(begin) {
                    return Some(rest.to_owned());
                }
            }
        };
        tokio::time::timeout(patience, line).await.ok().flatten()
    }

    /// What it has in memory, in MiB: now, and at most.
    pub(crate) fn resident(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let mib = |what: &str| {
            let line = status.lines().find(|line| line.starts_with(what)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (mib("VmRSS"), mib("VmHWM"))
    }

    /// How long it has had a processor, in seconds.
    pub(crate) fn busy(&self) -> f64 {
        busy(&self.process.id().to_string())
    }

    pub(crate) fn end(mut self) {
        let (now, most) = self.resident();
        println!("  resident: {now:.0} MiB, at most {most:.0} MiB");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// How long a process has had a processor, in seconds.
pub(crate) fn busy(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which is in parentheses, the 12th and the 13th, in hundredths of a second.
    let after = stat.rsplit_once(')').unwrap().1;
    after.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}
