//! Tests of jobs, namespaces and clusters that exceed their limits, and of the others beside them.

use super::*;
use crate::limits::Limits;

fn job_of(namespace: &str, name: &str) -> JobKey {
    JobKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn sources(clusters: &[&str]) -> WatchSpec {
    WatchSpec { sources: clusters.iter().map(|cluster| source(cluster, "orders")).collect(), ..watch("k", "orders") }
}

/// Returns for each source of a job whether it was read, and the category of its failure.
fn outcomes(hub: &Hub, job: &JobKey) -> Vec<(bool, Option<Category>)> {
    let samples = hub.read(job).unwrap();
    let each = samples.sources.iter();
    each.map(|reading| (reading.sample.is_some(), reading.failure.as_ref().map(|failure| failure.category))).collect()
}

const READ: (bool, Option<Category>) = (true, None);
const REFUSED: (bool, Option<Category>) = (false, Some(Category::LimitExceeded));

/// Catalogue: B1.
#[tokio::test(start_paused = true)]
async fn clusters_are_limited_per_namespace_and_in_total() {
    let limits = Limits { clusters_per_namespace: 2, clusters: 4, ..Limits::default() };
    let (fake, hub) = FakeSources::with_limits(limits);
    let (greedy, modest) = (job_of("greedy", "a"), job_of("modest", "a"));
    hub.watch(&greedy, sources(&["a", "b", "c", "a"]));
    hub.watch(&modest, sources(&["a", "x"]));
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(outcomes(&hub, &greedy), [READ, READ, REFUSED, READ]);
    assert_eq!(outcomes(&hub, &modest), [READ, READ]);
    let message = hub.read(&greedy).unwrap().sources[2].failure.clone().unwrap().message;
    assert!(message.contains("namespace greedy already reads from 2 Kafka clusters"), "{message}");
    // The limit for the process.
    let others = [job_of("n1", "a"), job_of("n2", "a")];
    others.iter().zip(["y", "z"]).for_each(|(job, cluster)| hub.watch(job, sources(&[cluster])));
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!((outcomes(&hub, &others[0]), outcomes(&hub, &others[1])), (vec![READ], vec![REFUSED]));
    assert_eq!((hub.stats().clusters, fake.rounds("c").len(), fake.rounds("z").len()), (4, 0, 0));
    // A cluster that is given up is available to the next job, even if that job's watch has not changed.
    hub.watch(&greedy, sources(&["a", "c"]));
    hub.forget(&others[0]);
    hub.watch(&others[1], sources(&["z"]));
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!((outcomes(&hub, &greedy), outcomes(&hub, &others[1])), (vec![READ, READ], vec![READ]));
    // A new cluster takes the place of a previous one, which is available again later.
    hub.watch(&greedy, sources(&["d", "e", "a"]));
    hub.watch(&greedy, sources(&["a"]));
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(outcomes(&hub, &greedy), [READ]);
    for job in hub.jobs() {
        hub.forget(&job);
    }
    let stats = hub.stats();
    assert_eq!((stats.jobs, stats.clusters, stats.kept_bytes), (0, 0, 0));
    assert!(hub.shared.state().is_empty());
}

/// Catalogue: B1.
#[tokio::test(start_paused = true)]
async fn sample_memory_is_limited_and_small_jobs_are_always_read() {
    const MIB: usize = 1 << 20;
    let limits = Limits { kept_bytes: 40 * MIB, kept_bytes_per_namespace: 24 * MIB, ..Limits::default() };
    let (fake, hub) = FakeSources::with_limits(limits);
    let hostile: Vec<JobKey> = (0..50).map(|n| job_of(&format!("team-{}", n % 5), &format!("hostile-{n}"))).collect();
    for (number, job) in hostile.iter().enumerate() {
        let cluster = format!("large-{number}");
        // About 10 MiB.
        fake.set(&cluster, Behaviour::Large(5_000));
        hub.watch(job, sources(&[&cluster]));
    }
    tokio::time::sleep(20 * SECOND).await;
    let honest: Vec<JobKey> = (0..50).map(|n| job_of(&format!("team-{}", n % 10), &format!("honest-{n}"))).collect();
    for job in &honest {
        hub.watch(job, sources(&["k"]));
    }
    tokio::time::sleep(60 * SECOND).await;
    let kept = hub.stats().kept_bytes;
    assert!((20 * MIB..42 * MIB).contains(&kept), "{kept}");
    assert!(honest.iter().all(|job| outcomes(&hub, job) == [READ]));
    let refused: Vec<&JobKey> = hostile.iter().filter(|job| outcomes(&hub, job) == [REFUSED]).collect();
    assert!((45..50).contains(&refused.len()), "{}", refused.len());
    let message = hub.read(refused[0]).unwrap().sources[0].failure.clone().unwrap().message;
    assert!(message.contains("--source-memory") && message.contains("MiB"), "{message}");
    // After 16 s, 32 s, 64 s, …: far fewer rounds than for a cluster that is down.
    let rounds: usize = (0..50).map(|number| fake.rounds(&format!("large-{number}")).len()).sum();
    assert!(rounds < 4 * 40 + 46 * 4, "{rounds}");
    for job in hub.jobs() {
        hub.forget(&job);
    }
    assert_eq!(hub.stats().kept_bytes, 0);
}

/// Catalogue: C14.
#[tokio::test(start_paused = true)]
async fn unreached_source_comes_first_in_the_next_round() {
    let (fake, hub) = FakeSources::start();
    fake.set("k", Behaviour::Reaches(3));
    let jobs: Vec<JobKey> = (0..12).map(|number| job(&format!("job-{number:02}"))).collect();
    for (number, job) in jobs.iter().enumerate() {
        hub.watch(job, watch("k", &format!("topic-{number:02}")));
    }
    tokio::time::sleep(100 * SECOND).await;
    for job in &jobs {
        let reading = hub.read(job).unwrap().sources.remove(0);
        assert_eq!(reading.failure, None);
        assert!(fake.now() - reading.sample.unwrap().at.0 < 5.0, "{job} is read as often as the others");
    }
    let reached = |topic: &str| {
        let rounds = fake.rounds("k");
        rounds.iter().filter(|(_, asked)| asked.iter().take(3).any(|request| request.topic == topic)).count()
    };
    let (first, last) = (reached("topic-00"), reached("topic-11"));
    assert!(first.abs_diff(last) <= 3 && first > 20, "{first} and {last}");
}

/// Catalogue: B1.
#[tokio::test(start_paused = true)]
async fn source_with_too_large_answers_is_isolated() {
    let (fake, hub) = FakeSources::start();
    let honest: Vec<JobKey> = (0..20).map(|number| job(&format!("job-{number:02}"))).collect();
    for (number, job) in honest.iter().enumerate() {
        hub.watch(job, watch("k", &format!("topic-{number:02}")));
    }
    tokio::time::sleep(10 * SECOND).await;
    fake.set("k", Behaviour::SomeHuge);
    hub.watch(&job("huge"), watch("k", "huge"));
    let mut oldest: f64 = 0.0;
    for _ in 0..600 {
        tokio::time::sleep(SECOND).await;
        for job in &honest {
            let reading = hub.read(job).unwrap().sources.remove(0);
            assert_eq!(reading.failure, None);
            oldest = oldest.max(fake.now() - reading.sample.unwrap().at.0);
        }
    }
    assert!(oldest < 5.0, "{oldest}");
    let reading = hub.read(&job("huge")).unwrap().sources.remove(0);
    assert_eq!(reading.failure.unwrap().category, Category::LimitExceeded);
    let alone = fake.rounds("k").iter().filter(|(_, asked)| asked.len() == 1 && asked[0].topic == "huge").count();
    assert!((4..8).contains(&alone), "16 s, 32 s, 64 s, …: {alone}");
}

/// Catalogue: B1.
#[tokio::test(start_paused = true)]
async fn hung_workers_of_fifty_jobs_do_not_delay_others() {
    let (fake, hub) = FakeSources::start();
    for number in 0..50 {
        let workers: Vec<_> = (0..40).map(|worker| format!("hung-{number}-{worker}")).collect();
        for id in &workers {
            fake.set(id, Behaviour::NeverAnswers);
        }
        let workers = workers.iter().map(|id| worker(id)).collect();
        hub.watch(&job(&format!("hung-{number}")), WatchSpec { sources: Vec::new(), workers, ..watch("k", "orders") });
    }
    let honest: Vec<String> = (0..50).map(|number| format!("honest-{number}")).collect();
    for id in &honest {
        hub.watch(&job(id), WatchSpec { sources: Vec::new(), workers: vec![worker(id)], ..watch("k", "orders") });
    }
    tokio::time::sleep(300 * SECOND).await;
    for id in &honest {
        let scrapes = fake.scrapes(id);
        // At first there are 2,000 workers that may be quick. Each of them has half a second to show it, 128 at a time.
        assert!(scrapes[0] < 1_010.0, "{id}: {}", scrapes[0]);
        let later: Vec<f64> = scrapes.into_iter().filter(|at| *at > 1_015.0).collect();
        let gaps = gaps(&later);
        assert!(gaps.len() > 130 && gaps.iter().all(|gap| (1.8 - TICK..2.2 + TICK).contains(gap)), "{id}: {gaps:?}");
    }
    let failure = hub.read(&job("hung-0")).unwrap().workers[0].failure.clone().unwrap();
    assert_eq!(failure.category, Category::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn jobs_returns_every_watched_job() {
    let (_world, hub) = FakeSources::start();
    hub.watch(&job("a"), watch("k", "orders"));
    hub.watch(&job("b"), watch("k", "orders"));
    hub.forget(&job("a"));
    assert_eq!(Signals::jobs(&hub), [job("b")]);
}

/// Catalogue: C14.
#[tokio::test(start_paused = true)]
async fn more_jobs_than_fit_a_round_are_all_read_each_interval() {
    let (fake, hub) = FakeSources::start();
    for number in 0..5_000 {
        hub.watch(&job(&format!("job-{number}")), watch("k", &format!("topic-{number}")));
    }
    tokio::time::sleep(10 * SECOND).await;
    let rounds = fake.rounds("k");
    assert!(rounds.iter().all(|(_, asked)| asked.len() <= 4_096));
    let asked = rounds.iter().filter(|(at, _)| *at > 1_002.0).map(|(_, asked)| asked.len()).sum::<usize>();
    assert!((15_000..=25_000).contains(&asked), "{asked}");
    for number in 0..5_000 {
        let reading = hub.read(&job(&format!("job-{number}"))).unwrap().sources.remove(0);
        assert!(fake.now() - reading.sample.unwrap().at.0 < 2.6, "{number}");
    }
}
