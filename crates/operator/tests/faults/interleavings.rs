//! All interleavings in a small scope: two jobs and three pods, one of the jobs deleted at the end, and three watches
//! whose notifications may overtake each other. Each notification arrives at once, or after one or two later ones of
//! other watches, and up to two notifications are late in one run. All runs end in the same state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use embedded_kubernetes::faults::{Act, Asked, Harm, Plan};
use embedded_kubernetes::kinds::Resource;
use embedded_kubernetes::meta;
use embedded_kubernetes::store::{Change, Event};
use serde_json::json;
use sluice_signals::JobKey;
use sluice_testkit::world::ends::ends;
use sluice_testkit::world::{NAMESPACE, World, job, wait};

const WATCHED: [(&str, &str); 3] = [("sluice.dev", "streamjobs"), ("apps", "deployments"), ("", "pods")];

/// The result of a run.
struct End {
    state: BTreeSet<String>,
    /// Revisions of the operator's notifications, and the watch of each.
    notified: Vec<(u64, &'static str)>,
}

async fn play(plan: &Plan) -> End {
    let mut world = World::new(3).await;
    for name in ["orders", "returns"] {
        let key = JobKey { namespace: NAMESPACE.to_owned(), name: name.to_owned() };
        world.plant.set_rate(&key, 0);
    }
    let begin = world.server.store().revision();
    let faults = world.start_operator(plan, world.clock.clone(), None);
    wait(1).await;
    for (name, workers) in [("orders", 2), ("returns", 1)] {
        let mut object = job(name);
        object["spec"]["replicas"] = json!(workers);
        world.apply(&object).await;
    }
    wait(40).await;
    world.delete(&job("returns")).await;
    wait(40).await;
    let before = faults.requests().len();
    wait(60).await;
    let written = faults.requests()[before..].iter().any(|request| Act::Write.covers(request.act));
    let mut state: BTreeSet<String> =
        WATCHED.iter().flat_map(|(group, plural)| ends(plural, &world.list(group, plural))).collect();
    state.extend(written.then(|| "it keeps writing".to_owned()));
    state.extend((!faults.all_done()).then(|| "a notification was never late".to_owned()));
    let mut all = Vec::new();
    for (group, plural) in WATCHED {
        let events = notifications(&world, begin, group, plural);
        let created = events.iter().filter(|event| event.change == Change::Added).count();
        state.insert(format!("{created} {plural} were created"));
        all.extend(events.iter().map(|event| (event.object.revision, plural)));
    }
    all.sort_unstable();
    world.end();
    End { state, notified: all }
}

/// Returns the notifications that the operator gets about a resource.
fn notifications(world: &World, begin: u64, group: &str, plural: &str) -> Vec<Arc<Event>> {
    let mut watch = world.server.store().watch(&Resource::new(group, plural), Some(begin)).unwrap();
    let mut all = Vec::new();
    loop {
        let events = watch.read().unwrap();
        if events.is_empty() {
            return all;
        }
        let ours = |event: &&Arc<Event>| {
            plural == "streamjobs" || meta::label(&event.object.value, "sluice.dev/job").is_some()
        };
        all.extend(events.iter().filter(ours).cloned());
    }
}

/// Returns each way in which one notification is overtaken.
fn delays(notified: &[(u64, &'static str)]) -> Vec<(&'static str, Harm)> {
    let mut delays = Vec::new();
    for (at, (revision, watch)) in notified.iter().enumerate() {
        let others = notified[at + 1..].iter().filter(|(_, other)| other != watch);
        delays.extend(others.take(2).map(|(reached, _)| (*watch, Harm::Overtaken(revision - 1, *reached))));
    }
    delays
}

fn run(plan: &Plan) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play(plan))
}

/// Catalogue: T4.
#[test]
fn interleavings_of_notifications_end_in_the_same_state() {
    let reference = run(&Plan::default());
    for line in ["3 pods were created", "2 deployments were created"] {
        assert!(reference.state.contains(line), "{:?}", reference.state);
    }
    let late = |plan: Plan, (watch, harm): &(&str, Harm)| plan.and(Asked::every(Act::Watch).of(watch).nth(1), *harm);
    let delays = delays(&reference.notified);
    let one = delays.iter().map(|delay| late(Plan::default(), delay));
    let pairs = delays.iter().enumerate().flat_map(|(at, first)| {
        let others = delays[at + 1..].iter().filter(|(watch, _)| *watch != first.0);
        others.map(|second| late(late(Plan::default(), first), second))
    });
    let plans: Vec<Plan> = one.chain(pairs).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
            let end = run(plan);
            assert_eq!(end.state, reference.state, "{plan}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!("{} notifications, {} interleavings", reference.notified.len(), plans.len());
}
