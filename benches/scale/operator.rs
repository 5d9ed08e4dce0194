//! The operator's process: everything as in `sluice operator`, but for where samples come from.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Client, Config};
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_operator::Operator;
use sluice_operator::serve::Health;
use sluice_operator::serve::metrics::Metrics;
use sluice_signals::limits::{self, Limits};
use sluice_signals::{Egress, Hub, KafkaConnect, Threads};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::strangers::Doors;
use sluice_testkit::sources::Timed;

/// How often it tells how long decisions took.
const TELL: Duration = Duration::from_mins(1);

/// What is said once each job was decided on begins like this.
pub(crate) const FIRST: &str = "first full round: ";

/// What is said of all decisions after that begins like this; numbers follow, as in [`Times::all`].
pub(crate) const ALL: &str = "all since then: ";

/// The API server's address and the number of jobs whose sources answer; with real sources besides how long it is to be
/// looked at after the first full round, in seconds, and the doors of the workers' pages.
pub(crate) fn run(arguments: &[String]) {
    let [address, jobs, real @ ..] = arguments else { panic!("expected an address and a number of jobs") };
    let (address, jobs) = (address.clone(), jobs.parse().unwrap());
    let real =
        real.split_first().map(|(seconds, doors)| (Duration::from_secs(seconds.parse().unwrap()), Doors::of(doors)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::system();
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.auth_info.token = Some("token".to_owned().into());
        let times = Arc::new(Mutex::new(Times::new(&clock, jobs, real.as_ref().map(|(look_on, _)| *look_on))));
        let (noting, is_real) = (Arc::clone(&times), real.is_some());
        let note = move |job: &str, waited, age| noting.lock().unwrap().note(job, waited, age);
        let signals = match real {
            None => Timed::new(&clock, note),
            Some((_, doors)) => {
                // As much as the chart gives it.
                let limits = Limits::for_process(256 << 20, limits::max_open_files());
                let egress = Egress::allow_loopback();
                let connect = KafkaConnect::new(clock.clone(), egress.clone()).with_limits(limits);
                let scrape = Arc::new(doors.lead(&clock, egress));
                let threads = Threads::start().unwrap();
                Timed::on(&clock, Arc::new(connect), note, |connect| {
                    Hub::on_threads(threads, limits, clock.clone(), connect, scrape)
                })
            }
        };
        let (hub, updates) = (signals.hub.clone(), signals.hub.updates());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TELL).await;
                println!("{}", times.lock().unwrap().minute());
                if is_real {
                    println!("{:?}", hub.stats());
                }
            }
        });
        let operator = Operator {
            client: Client::try_from(config).unwrap(),
            namespaces: Vec::new(),
            excluded: BTreeSet::new(),
            election: None,
            signals: Arc::new(signals),
            health: Health::default(),
            metrics: Metrics::default(),
            clock,
        };
        operator.run(updates, CancellationToken::new()).await;
    });
}

/// How long answers have waited, and how old samples were.
struct Times {
    begin: Instant,
    /// Jobs whose sources answer, and those of them that were decided on.
    jobs: usize,
    decided: BTreeSet<String>,
    /// Since they were last told, in milliseconds.
    minute: Vec<f64>,
    /// For how long all are noted, and how long after the beginning that began.
    look_on: Option<Duration>,
    full: Option<Duration>,
    /// Since then, in milliseconds: waits, and ages of samples.
    waits: Vec<f64>,
    ages: Vec<f64>,
}

impl Times {
    fn new(clock: &Clock, jobs: usize, look_on: Option<Duration>) -> Self {
        Self {
            begin: clock.monotonic(),
            jobs,
            decided: BTreeSet::new(),
            minute: Vec::new(),
            look_on,
            full: None,
            waits: Vec::new(),
            ages: Vec::new(),
        }
    }

    fn note(&mut self, job: &str, waited: Option<Duration>, age: Option<Seconds>) {
        if let (true, Some(age)) = (self.look_on.is_some() && self.full.is_some(), age) {
            self.ages.push(age.0 * 1e3);
        }
        let Some(waited) = waited.map(|waited| waited.as_secs_f64() * 1e3) else { return };
        self.minute.push(waited);
        if self.decided.len() < self.jobs && self.decided.insert(job.to_owned()) && self.decided.len() == self.jobs {
            let full = self.begin.elapsed();
            println!("{FIRST}{:.1} s after the start", full.as_secs_f64());
            self.full = Some(full);
        }
        if let (Some(look_on), Some(full)) = (self.look_on, self.full) {
            self.waits.push(waited);
            if self.begin.elapsed() >= full + look_on {
                println!("{}", self.all());
                self.look_on = None;
            }
        }
    }

    /// Number, median, p99 and the longest of the waits; the same of the ages but for their number.
    fn all(&mut self) -> String {
        let [waits, ages] =
            [&mut self.waits, &mut self.ages].map(|times| at(times).map(|ms| format!("{ms:.1}")).join(" "));
        format!("{ALL}{} {waits} {ages}", self.waits.len())
    }

    fn minute(&mut self) -> String {
        let mut waits = std::mem::take(&mut self.minute);
        let [half, most, last] = at(&mut waits);
        format!(
            "{} decisions, from sample to decision: median {half:.1} ms, p99 {most:.1} ms, longest {last:.1} ms",
            waits.len()
        )
    }
}

/// Median, p99 and the largest.
fn at(times: &mut [f64]) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [50, 99, 100].map(|percent| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or(f64::NAN)
    })
}
