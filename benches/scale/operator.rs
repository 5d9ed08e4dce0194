//! The operator's process: everything as in `sluice operator`, but for where samples come from.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Client, Config};
use sluice_base::clock::Clock;
use sluice_operator::Operator;
use sluice_operator::serve::Health;
use sluice_operator::serve::metrics::Metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use sluice_testkit::sources::Timed;

/// How often it tells how long decisions took.
const TELL: Duration = Duration::from_mins(1);

pub(crate) fn run(address: &str, jobs: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::system();
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.auth_info.token = Some("token".to_owned().into());
        let times =
            Arc::new(Mutex::new(Times { begin: clock.monotonic(), jobs, decided: BTreeSet::new(), waits: Vec::new() }));
        let noting = Arc::clone(&times);
        let signals = Timed::new(&clock, move |job, waited| noting.lock().unwrap().note(job, waited));
        let updates = signals.hub.updates();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TELL).await;
                times.lock().unwrap().tell();
            }
        });
        let operator = Operator {
            client: Client::try_from(config).unwrap(),
            namespaces: Vec::new(),
            excluded: std::collections::BTreeSet::new(),
            election: None,
            signals: Arc::new(signals),
            health: Health::default(),
            metrics: Metrics::default(),
            clock,
        };
        operator.run(updates, CancellationToken::new()).await;
    });
}

/// How long answers have waited.
struct Times {
    begin: Instant,
    /// Jobs whose sources answer, and those of them that were decided on.
    jobs: usize,
    decided: BTreeSet<String>,
    /// Since they were last told, in milliseconds.
    waits: Vec<f64>,
}

impl Times {
    fn note(&mut self, job: &str, waited: Duration) {
        self.waits.push(waited.as_secs_f64() * 1e3);
        if self.decided.len() < self.jobs && self.decided.insert(job.to_owned()) && self.decided.len() == self.jobs {
            println!("first full round: {:.1} s after the start", self.begin.elapsed().as_secs_f64());
        }
    }

    fn tell(&mut self) {
        let mut waits = std::mem::take(&mut self.waits);
        waits.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let place = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
            waits.get(place).copied().unwrap_or(f64::NAN)
        };
        let (half, most, last) = (at(50), at(99), at(100));
        println!(
            "{} decisions, from sample to decision: median {half:.1} ms, p99 {most:.1} ms, longest {last:.1} ms",
            waits.len()
        );
    }
}
