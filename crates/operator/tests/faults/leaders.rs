//! Two operators and one lease: nobody writes but its holder, whatever becomes of clocks, answers and processes.

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

/// Who held the lease, since when.
type Holders = Arc<Mutex<Vec<(Instant, String)>>>;

/// Takes note of who holds the lease.
fn follow(world: &World) -> Holders {
    let holders = Holders::default();
    let (noted, clock) = (Arc::clone(&holders), world.clock.clone());
    let mut watch = world.server.store().watch(&Resource::new("coordination.k8s.io", "leases"), None).unwrap();
    tokio::spawn(async move {
        loop {
            for event in watch.next().await.unwrap() {
                let holder = meta::text(&event.object.value, "/spec/holderIdentity").to_owned();
                noted.lock().unwrap().push((clock.monotonic(), holder));
            }
        }
    });
    holders
}

/// Every write that was done, of one of two: when, and in which life.
fn writes(faults: &Faults) -> Vec<(Instant, u32, String)> {
    let all = faults.requests().into_iter();
    let done = all.filter(|request| Act::Write.covers(request.act) && request.code.is_some_and(|code| code < 300));
    let ours = done.filter(|request| !matches!(request.path.plural.as_str(), "leases" | "events"));
    ours.filter_map(|request| Some((request.done?, request.life, request.resource()))).collect()
}

/// Two operators, of which the first meets the faults of `plan`, and whose clocks are wrong by so many seconds. Returns how
/// long nobody led at most.
async fn two(plan: &str, wrong: (f64, f64)) -> f64 {
    let mut world = World::new(3).await;
    let holders = follow(&world);
    let key = JobKey { namespace: NAMESPACE.to_owned(), name: "orders".to_owned() };
    world.plant.set_rate(&key, 100);
    let clock = |wrong: f64| Clock::starting_at(world.clock.now() + Seconds(wrong));
    let (first, second) = (clock(wrong.0), clock(wrong.1));
    let of = |name: &str| {
        Some(Election { namespace: NAMESPACE.to_owned(), lease: "sluice".to_owned(), identity: format!("{name}-") })
    };
    let a = world.start_operator(&plan.parse().unwrap(), first, of("a"));
    wait(5).await;
    let b = world.start_operator(&"".parse().unwrap(), second, of("b"));
    // Something to write at any time: the number is pinned to another, again and again.
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
            // Two things of one moment have no order.
            let then = holders.iter().rfind(|(since, _)| *since < at).map_or("", |(_, holder)| holder);
            let now = holders.iter().rfind(|(since, _)| *since <= at).map_or("", |(_, holder)| holder);
            let me = format!("{name}-{life}");
            assert!(then == me || now == me, "{plan}: {me} has written {what} while {then:?} held the lease");
        }
    }
    assert!(writes(&a).len() + writes(&b).len() > 20, "{plan}: hardly anything was written");
    let deployments = world.list("apps", "deployments");
    let ours = deployments.iter().find(|object| meta::name(object) == "orders").unwrap();
    assert_eq!(ours["spec"]["replicas"], object["spec"]["replicas"], "{plan}: the last number that was asked for");
    let mut all: Vec<Instant> =
        writes(&a).iter().chain(&writes(&b)).map(|(at, ..)| *at).filter(|at| *at <= end).collect();
    all.sort();
    world.end();
    all.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).fold(0.0, f64::max)
}

#[tokio::test(start_paused = true)]
async fn t8_of_two_operators_only_the_holder_of_the_lease_writes() {
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
        let longest = two(plan, wrong).await;
        // A lease, two attempts, and five seconds until there is something to be written again.
        assert!(longest <= 15.0 + 2.0 * 2.0 + 5.0 + 2.0, "{plan}: nobody wrote for {longest:.1} s");
    }
}
