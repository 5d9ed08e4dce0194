//! All interleavings of a small scope: two jobs and three pods, one of the jobs deleted in the end, and what the operator is
//! told of them by three watches that may overtake each other. Each notification comes at once, or once one or two later ones
//! of other watches have come; any two of them at a time. All end in the same state.

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

/// What a run comes to.
struct End {
    state: BTreeSet<String>,
    /// Revisions of what the operator is told, with the watch that tells it.
    told: Vec<(u64, &'static str)>,
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
    state.extend(written.then(|| "it does not come to rest".to_owned()));
    state.extend((!faults.all_done()).then(|| "a notification was never late".to_owned()));
    let mut all = Vec::new();
    for (group, plural) in WATCHED {
        let told = told(&world, begin, group, plural);
        let made = told.iter().filter(|event| event.change == Change::Added).count();
        state.insert(format!("{made} {plural} were made"));
        all.extend(told.iter().map(|event| (event.object.revision, plural)));
    }
    all.sort_unstable();
    world.end();
    End { state, told: all }
}

/// What the operator is told of a resource.
fn told(world: &World, begin: u64, group: &str, plural: &str) -> Vec<Arc<Event>> {
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

/// Each way in which one notification is overtaken.
fn ways(told: &[(u64, &'static str)]) -> Vec<(&'static str, Harm)> {
    let mut ways = Vec::new();
    for (at, (revision, watch)) in told.iter().enumerate() {
        let others = told[at + 1..].iter().filter(|(_, other)| other != watch);
        ways.extend(others.take(2).map(|(reached, _)| (*watch, Harm::Overtaken(revision - 1, *reached))));
    }
    ways
}

fn run(plan: &Plan) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play(plan))
}

#[test]
fn t4_all_interleavings_of_two_jobs_and_three_pods_end_in_the_same_state() {
    let reference = run(&Plan::default());
    for line in ["3 pods were made", "2 deployments were made"] {
        assert!(reference.state.contains(line), "{:?}", reference.state);
    }
    let late = |plan: Plan, (watch, harm): &(&str, Harm)| plan.and(Asked::every(Act::Watch).of(watch).nth(1), *harm);
    let ways = ways(&reference.told);
    let one = ways.iter().map(|way| late(Plan::default(), way));
    let pairs = ways.iter().enumerate().flat_map(|(at, first)| {
        let others = ways[at + 1..].iter().filter(|(watch, _)| *watch != first.0);
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
    println!("{} notifications, {} interleavings", reference.told.len(), plans.len());
}
