//! The hub beside brokers and workers that mean harm: what it comes to in memory, and how old the samples of the honest jobs
//! get. The hub is a process of its own, so that its memory can be told from theirs.

use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use krafka::testing::FakeBroker;
use sluice_api::v1alpha1::Kafka;
use sluice_base::clock::Clock;
use sluice_signals::{Egress, HttpScraper, Hub, JobKey, KafkaConnect, SourceSpec, WatchSpec, WorkerEndpoint};

use sluice_testkit::hostile::{self, BROKERS, PAGES, TOPIC};

/// Jobs whose brokers and workers mean harm.
const HOSTILE: usize = 50;
/// Jobs whose broker does not.
const HONEST: usize = 20;
const PARTITIONS: i32 = 24;

pub(crate) fn measure(minutes: u64) {
    println!("{HOSTILE} jobs whose brokers and workers mean harm, {HONEST} beside them, {minutes} minutes");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let honest = FakeBroker::start().await.unwrap();
        (0..HONEST).for_each(|number| _ = honest.create_topic(&format!("honest-{number}"), PARTITIONS));
        for hostile in [false, true] {
            let mut arguments = vec!["strangers-hub".to_owned(), minutes.to_string(), honest.bootstrap_servers()];
            for number in 0..if hostile { HOSTILE } else { 0 } {
                let broker = hostile::broker(BROKERS[number % BROKERS.len()]).await;
                let worker = hostile::worker(PAGES[number % PAGES.len()]).await;
                arguments.extend([broker.to_string(), worker.to_string()]);
            }
            let mut hub = Command::new(std::env::current_exe().unwrap()).args(arguments).spawn().unwrap();
            tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
            println!("  resident: {} MiB, at most {} MiB", mib(&hub, "VmRSS"), mib(&hub, "VmHWM"));
            hub.wait().unwrap();
        }
    });
}

fn mib(process: &Child, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() >> 10
}

/// The hub's process: minutes, the honest broker, and for each hostile job a broker and a worker.
pub(crate) fn hub(arguments: &[String]) {
    let (minutes, honest) = (arguments[0].parse::<u64>().unwrap(), arguments[1].clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (clock, egress) = (Clock::system(), Egress::allow_loopback());
        let connect = Arc::new(KafkaConnect::new(clock.clone(), egress.clone()));
        let hub = Hub::new(clock.clone(), connect, Arc::new(HttpScraper::new(clock.clone(), egress).unwrap()));
        let of_honest: Vec<JobKey> = (0..HONEST).map(|number| key("honest", number)).collect();
        for (number, job) in of_honest.iter().enumerate() {
            hub.watch(job, watch(&honest, &format!("honest-{number}"), Vec::new()));
        }
        for (number, pair) in arguments[2..].chunks_exact(2).enumerate() {
            let (id, path) = (format!("worker-{number}"), "/metrics".to_owned());
            let worker = WorkerEndpoint { uid: id.clone(), id, address: pair[1].parse().unwrap(), path };
            hub.watch(&key("hostile", number), watch(&pair[0], TOPIC, vec![worker]));
        }
        let end = clock.monotonic() + Duration::from_secs(60 * minutes + 5);
        let mut ages = Vec::new();
        while clock.monotonic() < end {
            tokio::time::sleep(Duration::from_millis(250)).await;
            for job in &of_honest {
                let sample = hub.read(job).and_then(|samples| samples.sources.first()?.sample.clone());
                ages.extend(sample.map(|sample| (clock.now() - sample.at).0));
            }
        }
        ages.sort_by(f64::total_cmp);
        let at =
            |percent: usize| ages.get(ages.len() * percent / 100).or_else(|| ages.last()).copied().unwrap_or(f64::NAN);
        println!("  age of the honest samples: median {:.1} s, p99 {:.1} s, at most {:.1} s", at(50), at(99), at(100));
        println!("  {:?}", hub.stats());
    });
}

fn key(team: &str, number: usize) -> JobKey {
    // Ten teams, as if each had a few such jobs.
    JobKey { namespace: format!("{team}-{}", number % 10), name: format!("job-{number}") }
}

fn watch(servers: &str, topic: &str, workers: Vec<WorkerEndpoint>) -> WatchSpec {
    let kafka = Kafka {
        bootstrap_servers: servers.split(',').map(str::to_owned).collect(),
        topic: topic.to_owned(),
        consumer_group: "g".to_owned(),
        offset_reset: None,
    };
    let sources = vec![SourceSpec { name: "in".to_owned(), kafka }];
    WatchSpec { latency: Duration::from_secs(10), sources, workers }
}
