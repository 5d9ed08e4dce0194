//! Jobs that read real brokers with the real client, alone and beside jobs whose brokers and workers are hostile: from sample to
//! decision, the age of the samples that are decided on, memory.
//!
//! The operator is a process of its own; brokers, pages and control planes are in this one. Two planes have the same honest jobs,
//! one has hostile ones besides. Their operators take turns, so that what the machine does to a run can be told from what the
//! hostile jobs do to it. All workloads are there when a run begins, and each hostile source is new to its operator, which asks
//! it the less often the longer it has been refused: the first minute is the worst.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sluice_base::clock::Clock;
use sluice_signals::scrape::ScrapeError;
use sluice_signals::{Egress, HttpScraper, Scrape, WorkerEndpoint, WorkerSample};

use super::child::{self, Child};
use super::honest::{self, Topic};
use super::operator::{ALL, FIRST};
use super::plane::{PATIENCE, Plane};
use sluice_testkit::hostile::{self, BROKERS, PAGES, TOPIC};
use sluice_testkit::sources::Pages;

/// Jobs whose brokers and workers are hostile, of all teams.
const HOSTILE: usize = 50;
/// Jobs whose brokers and workers do not.
const HONEST: usize = 500;
/// The honest jobs of each share a broker.
const TEAMS: usize = 10;
/// How often the two take turns.
const TURNS: usize = 3;
/// Time for the workers that are needed to start, before anything is measured.
const SETTLE: Duration = Duration::from_secs(30);
/// What the names of jobs begin with that are hostile.
const MEANS_HARM: &str = "hostile-";

pub(crate) fn measure(minutes: u64) {
    println!(
        "{HONEST} jobs of {TEAMS} teams, alone and beside {HOSTILE} whose brokers and workers are hostile, in turns"
    );
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // What hostile servers make up takes no thread of the honest ones.
    let harm = runtime();
    runtime().block_on(async {
        let clock = Clock::system();
        let pages = Arc::new(Pages::new(&clock));
        let (alone, beside) = (Plane::start().await, Plane::start().await);
        for team in 0..TEAMS {
            let of_team = (0..HONEST).filter(|number| number % TEAMS == team);
            let topics: Vec<Topic> = of_team
                .map(|number| Topic { job: format!("job-{number}"), partitions: 8 + 8 * (number / TEAMS % 3) })
                .collect();
            let names: Vec<String> = topics.iter().map(|topic| topic.job.clone()).collect();
            let server = honest::broker(&clock, &pages, topics).await;
            for plane in [&alone, &beside] {
                plane.namespace(&namespace(team));
                for name in &names {
                    plane.job(&namespace(team), name, &server, name);
                }
            }
        }
        for number in 0..HOSTILE {
            let broker = harm.spawn(hostile::broker(BROKERS[number % BROKERS.len()])).await.unwrap();
            beside.job(&namespace(number % TEAMS), &format!("{MEANS_HARM}{number}"), &broker.to_string(), TOPIC);
        }
        let mut doors = vec![honest::workers(pages).await];
        for page in PAGES {
            doors.push(harm.spawn(hostile::worker(page)).await.unwrap().port());
        }
        let arguments = |plane: &Plane| {
            let mut arguments = vec![plane.address.clone(), HONEST.to_string(), (60 * minutes).to_string()];
            arguments.extend(doors.iter().map(u16::to_string));
            arguments
        };
        let both = [("alone", &alone), ("beside them", &beside)];
        for (name, plane) in both {
            println!("{name}, from nothing:");
            let mut made = Child::start(&arguments(plane));
            made.says(FIRST, PATIENCE).await.unwrap();
            tokio::time::sleep(SETTLE).await;
            made.end();
        }
        let mut runs = Vec::new();
        for _ in 0..TURNS {
            for (name, plane) in both {
                println!("{name}:");
                runs.push((name, run(&arguments(plane), minutes).await));
            }
        }
        tell(&runs);
        alone.end().await;
        beside.end().await;
    });
    harm.shutdown_background();
}

fn namespace(team: usize) -> String {
    format!("team-{team}")
}

/// What became of one run.
struct Run {
    /// Of all decisions on new samples after the first full round: their number; median, p99 and the longest time from sample to
    /// decision. And of all decisions the age of the sample: median, p99 and the oldest. In milliseconds.
    times: Vec<f64>,
    /// Memory in the end and at most, in MiB.
    resident: (f64, f64),
    /// Processors of the operator, and of everything else here, over the run.
    busy: (f64, f64),
}

async fn run(arguments: &[String], minutes: u64) -> Run {
    let clock = Clock::system();
    let (began, busy) = (clock.monotonic(), child::busy("self"));
    let mut operator = Child::start(arguments);
    operator.says(FIRST, PATIENCE).await.unwrap();
    let times = operator.says(ALL, Duration::from_secs(60 * minutes) + PATIENCE).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let run = Run {
        times: times.split(' ').map(|number| number.parse().unwrap()).collect(),
        resident: operator.resident(),
        busy: (operator.busy() / seconds, (child::busy("self") - busy) / seconds),
    };
    operator.end();
    run
}

fn tell(runs: &[(&str, Run)]) {
    println!(
        "| | decisions | from sample to decision: median, p99, longest, ms | age of the sample: median, p99, oldest, ms | MiB in the end, at most | processors of the operator, of the rest |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, Run { times, resident, busy }) in runs {
        let [decisions, half, most, last, age_half, age_most, age_last] = times[..] else { panic!("{times:?}") };
        println!(
            "| {name} | {decisions} | {half} {most} {last} | {age_half} {age_most} {age_last} | {:.0} {:.0} | {:.2} {:.2} |",
            resident.0, resident.1, busy.0, busy.1
        );
    }
}

/// The ports at which workers' pages are on loopback.
pub(crate) struct Doors {
    honest: u16,
    /// One for each kind of page.
    hostile: Vec<u16>,
}

impl Doors {
    pub(crate) fn of(ports: &[String]) -> Self {
        let mut ports = ports.iter().map(|port| port.parse().unwrap());
        Self { honest: ports.next().unwrap(), hostile: ports.collect() }
    }

    /// A scraper that goes through them.
    pub(crate) fn lead(self, clock: &Clock, egress: Egress) -> Led {
        Led { doors: self, scraper: HttpScraper::new(clock.clone(), egress).unwrap() }
    }
}

/// The real scraper, led to loopback: no pod has the address that is told of it.
pub(crate) struct Led {
    doors: Doors,
    scraper: HttpScraper,
}

impl Scrape for Led {
    fn scrape<'a>(
        &'a self,
        worker: &'a WorkerEndpoint,
        topics: &'a [String],
        deadline: Duration,
    ) -> BoxFuture<'a, Result<WorkerSample, ScrapeError>> {
        let mut led = WorkerEndpoint { path: format!("/{}", worker.id), ..worker.clone() };
        led.address = match worker.id.strip_prefix(MEANS_HARM) {
            // NUMBER-HASH-CHANCE
            Some(rest) => {
                let number: usize = rest.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
                SocketAddr::from((Ipv4Addr::LOCALHOST, self.doors.hostile[number % self.doors.hostile.len()]))
            }
            // At an address of its own, so that it has a connection of its own.
            None => SocketAddr::from((on_loopback(worker.address.ip()), self.doors.honest)),
        };
        Box::pin(async move { self.scraper.scrape(&led, topics, deadline).await })
    }
}

fn on_loopback(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { return Ipv4Addr::LOCALHOST };
    let [_, rest @ ..] = address.octets();
    Ipv4Addr::new(127, rest[0], rest[1], rest[2])
}
