//! Two operators and one lease: only its holder writes, whatever happens to clocks, answers and processes.

use std::sync::{Arc, Mutex};

use embedded_kubernetes::faults::{Act, Faults};
use embedded_kubernetes::kinds::Resource;
use embedded_kubernetes::meta;
use serde_json::json;
use sluice_base::clock::Clock;
use sluice_base::units::Seconds;
use sluice_operator::Election;
use sluice_signals::JobKey;
use tokio::time::Instant;

use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// Holders of the lease, and the time since when each held it.
type Holders = Arc<Mutex<Vec<(Instant, String)>>>;

/// Records the holders of the lease.
fn follow(world: &World) -> Holders {
    let holders = Holders::default();
    let (recorded, clock) = (Arc::clone(&holders), world.clock.clone());
    let mut watch = world.server.store().watch(&Resource::new("coordination.k8s.io", "leases"), None).unwrap();
    tokio::spawn(async move {
        loop {
            for event in watch.next().await.unwrap() {
                let holder = meta::text(&event.object.value, "/spec/holderIdentity").to_owned();
                recorded.lock().unwrap().push((clock.monotonic(), holder));
            }
        }
    });
    holders
}

/// Returns the successful writes of one operator: time, number of the process's life, and resource.
fn writes(faults: &Faults) -> Vec<(Instant, u32, String)> {
    let all = faults.requests().into_iter();
    let done = all.filter(|request| Act::Write.covers(request.act) && request.code.is_some_and(|code| code < 300));
    let ours = done.filter(|request| !matches!(request.path.plural.as_str(), "leases" | "events"));
    ours.filter_map(|request| Some((request.done?, request.life, request.resource()))).collect()
}

/// Runs two operators, the first under the faults of `plan`, whose clocks are off by `wrong` seconds. Returns the
/// longest time without a write, seconds.
async fn run_two_operators(plan: &str, wrong: (f64, f64)) -> f64 {
    let mut world = World::new(3).await;
    let holders = follow(&world);
    let key = JobKey { namespace: NAMESPACE.to_owned(), name: "orders".to_owned() };
    world.plant.set_rate(&key, 100);
    let clock = |wrong: f64| Clock::starting_at(world.clock.now() + Seconds(wrong));
    let (first, second) = (clock(wrong.0), clock(wrong.1));
    let election = |name: &str| {
        Some(Election { namespace: NAMESPACE.to_owned(), lease: "sluice".to_owned(), identity: format!("{name}-") })
    };
    let a = world.start_operator(&plan.parse().unwrap(), first, election("a"));
    wait(5).await;
    let b = world.start_operator(&"".parse().unwrap(), second, election("b"));
    // There is always something to write: the replica count is pinned to another number every 5 s.
    let mut object = job("orders");
    for round in 0..40 {
        object["spec"]["replicas"] = json!(2 + round % 3);
        world.apply(&object).await;
        wait(5).await;
    }
    let end = world.clock.monotonic();
    wait(30).await;
    let holders = holders.lock().unwrap().clone();
    for (name, faults) in [("a", &a), ("b", &b)] {
        for (at, life, what) in writes(faults) {
            // Two events at the same time have no order.
            let then = holders.iter().rfind(|(since, _)| *since < at).map_or("", |(_, holder)| holder);
            let now = holders.iter().rfind(|(since, _)| *since <= at).map_or("", |(_, holder)| holder);
            let me = format!("{name}-{life}");
            assert!(then == me || now == me, "{plan}: {me} wrote {what} while {then:?} held the lease");
        }
    }
    assert!(writes(&a).len() + writes(&b).len() > 20, "{plan}: too few writes");
    let deployments = world.list("apps", "deployments");
    let ours = deployments.iter().find(|object| meta::name(object) == "orders").unwrap();
    assert_eq!(ours["spec"]["replicas"], object["spec"]["replicas"], "{plan}: the last replica count that was set");
    let mut all: Vec<Instant> =
        writes(&a).iter().chain(&writes(&b)).map(|(at, ..)| *at).filter(|at| *at <= end).collect();
    all.sort();
    world.end();
    all.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).fold(0.0, f64::max)
}

/// Catalogue: T8.
#[tokio::test(start_paused = true)]
async fn only_the_holder_of_the_lease_writes() {
    let hour = 3600.0;
    for (plan, wrong) in [
        ("", (0.0, 0.0)),
        ("", (hour, -hour)),
        ("", (-1e9, 1e9)),
        ("update:leases#10-=silent", (0.0, 0.0)),
        ("update:leases#10-=lost", (hour, 0.0)),
        ("update:leases#10-30=refuse(500)", (0.0, 0.0)),
        ("get:leases#10-20=delay(4)", (0.0, 0.0)),
        ("any#60-90=delay(25)", (0.0, -hour)),
        ("any#60-=silent", (0.0, 0.0)),
        ("write:deployments/scale#4=crash", (0.0, 0.0)),
        ("patch:streamjobs/status#6=crash", (-hour, hour)),
        ("update:leases#10=crash", (0.0, 0.0)),
        ("update:leases#12=crash-late(3)", (0.0, 0.0)),
    ] {
        let longest = run_two_operators(plan, wrong).await;
        // The duration of a lease, two attempts, and five seconds until there is something to write again.
        assert!(longest <= 15.0 + 2.0 * 2.0 + 5.0 + 2.0, "{plan}: no write for {longest:.1} s");
    }
}
