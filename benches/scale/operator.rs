//! The operator's process: everything as in `sluice operator`, but for where samples come from.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Client, Config};
use sluice::clock::Clock;
use sluice::operator::Operator;
use sluice::serve::Health;
use sluice::serve::metrics::Metrics;
use sluice::signals::{Hub, JobKey, JobSamples, Signals, Watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sources::{Answered, Pages, Sources};

/// How often it tells how long decisions took.
const TELL: Duration = Duration::from_mins(1);

pub(crate) fn run(address: &str, jobs: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::system();
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.auth_info.token = Some("token".to_owned().into());
        let times = Times { begin: clock.monotonic(), decided: BTreeSet::new(), waits: Vec::new() };
        let answered = Answered::default();
        let pages = Arc::new(Pages::new(clock.clone()));
        let sources = Sources { clock: clock.clone(), pages: Arc::clone(&pages), answered: answered.clone() };
        let hub = Hub::new(clock.clone(), Arc::new(sources), pages);
        let signals = Arc::new(Timed { hub: hub.clone(), answered, times: Mutex::new(times), jobs });
        let telling = Arc::clone(&signals);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TELL).await;
                telling.tell();
            }
        });
        let operator = Operator {
            client: Client::try_from(config).unwrap(),
            namespaces: Vec::new(),
            election: None,
            signals,
            health: Health::default(),
            metrics: Metrics::default(),
            clock,
        };
        operator.run(hub.updates(), CancellationToken::new()).await;
    });
}

/// The hub, and how long what it has waits for the decision. A decision follows its reading of the hub within the same reconcile,
/// without waiting for anything.
struct Timed {
    hub: Hub,
    answered: Answered,
    times: Mutex<Times>,
    jobs: usize,
}

struct Times {
    begin: Instant,
    decided: BTreeSet<String>,
    /// In milliseconds.
    waits: Vec<f64>,
}

impl Timed {
    fn tell(&self) {
        let mut waits = std::mem::take(&mut self.times.lock().unwrap().waits);
        waits.sort_by(f64::total_cmp);
        let at = |share: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // an index
            let place = ((waits.len() as f64) * share) as usize;
            waits.get(place.min(waits.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
        };
        let (half, most, last) = (at(0.5), at(0.99), at(1.0));
        println!(
            "{} decisions, from sample to decision: median {half:.1} ms, p99 {most:.1} ms, longest {last:.1} ms",
            waits.len()
        );
    }
}

impl Signals for Timed {
    fn watch(&self, job: &JobKey, watch: Watch) {
        self.hub.watch(job, watch);
    }

    fn forget(&self, job: &JobKey) {
        self.hub.forget(job);
    }

    fn read(&self, job: &JobKey) -> Option<JobSamples> {
        let samples = self.hub.read(job);
        if let Some(answered) = self.answered.lock().unwrap().remove(&job.name) {
            let mut times = self.times.lock().unwrap();
            times.waits.push(answered.elapsed().as_secs_f64() * 1e3);
            if times.decided.len() < self.jobs
                && times.decided.insert(job.name.clone())
                && times.decided.len() == self.jobs
            {
                println!("first full round: {:.1} s after the start", times.begin.elapsed().as_secs_f64());
            }
        }
        samples
    }
}
