//! Runs a scenario under a plan, and records its outcome.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;

use embedded_kubernetes::faults::{Act, Plan, Record};
use embedded_kubernetes::kinds::Resource;
use embedded_kubernetes::meta;
use embedded_kubernetes::store::Event;
use serde_json::Value;
use sluice_signals::JobKey;

use crate::scenarios::{Scenario, Step};
use sluice_testkit::world::{NAMESPACE, World, wait};

/// Resources whose final state is compared, and whose history must satisfy the invariants.
pub(crate) const KINDS: [(&str, &str); 6] = [
    ("sluice.dev", "streamjobs"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "replicasets"),
    ("", "pods"),
    ("", "configmaps"),
];

/// Resources that the operator watches.
pub(crate) const WATCHED: [&str; 4] = ["streamjobs", "deployments", "statefulsets", "pods"];

/// A run ends when the operator has written nothing for this long, seconds.
const STILL: u64 = 60;
/// Maximum number of such periods until the run ends.
const PATIENCE: usize = 10;

pub(crate) struct Outcome {
    /// Every object at the end, by resource.
    pub(crate) objects: Vec<(&'static str, Vec<Value>)>,
    /// Every change, by resource.
    pub(crate) history: Vec<(&'static str, Vec<Arc<Event>>)>,
    pub(crate) requests: Vec<Record>,
    /// The operator kept writing until the end.
    pub(crate) keeps_writing: bool,
    /// The operator made requests without end while no time passed.
    pub(crate) too_many: bool,
    pub(crate) panics: u32,
    /// Revision at which the operator was first started.
    pub(crate) begin: u64,
    /// Every fault of the plan has matched a request.
    pub(crate) all_done: bool,
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts panics in all tasks.
pub(crate) fn watch_for_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.with(|panics| panics.set(panics.get() + 1));
        before(panic);
    }));
}

pub(crate) fn run(scenario: &Scenario, plan: &Plan) -> Outcome {
    PANICS.with(|panics| panics.set(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run_in_world(scenario, plan))
}

async fn run_in_world(scenario: &Scenario, plan: &Plan) -> Outcome {
    let mut world = World::new(7).await;
    let key = JobKey { namespace: NAMESPACE.to_owned(), name: "orders".to_owned() };
    let begin = world.server.store().revision();
    let faults = world.start_operator(plan, world.clock.clone(), None);
    let mut now = 0;
    for (at, step) in &scenario.steps {
        if *at > now {
            wait(at - now).await;
            now = *at;
        }
        match step {
            Step::Apply(object) => drop(world.apply(object).await),
            Step::Delete(object) => world.delete(object).await,
            Step::Rate(rate) => world.plant.set_rate(&key, *rate),
            Step::Away(away) => world.plant.set_away(&key, *away),
        }
    }
    wait(scenario.quiet).await;
    let mut periods = 0;
    let requests = loop {
        let before = faults.requests().len();
        wait(STILL).await;
        let requests = faults.requests();
        let written = requests[before..].iter().filter(|request| Act::Write.covers(request.act)).count();
        if written == 0 {
            break requests;
        }
        periods += 1;
        if periods >= PATIENCE {
            break requests;
        }
    };
    let outcome = Outcome {
        objects: KINDS.map(|(group, plural)| (plural, world.list(group, plural))).to_vec(),
        history: KINDS.map(|(group, plural)| (plural, history(&world, begin, &Resource::new(group, plural)))).to_vec(),
        requests,
        keeps_writing: periods >= PATIENCE,
        too_many: faults.too_many(),
        panics: PANICS.with(Cell::get),
        begin,
        all_done: faults.all_done(),
    };
    world.end();
    outcome
}

/// Returns every change of a resource since a revision.
fn history(world: &World, begin: u64, resource: &Resource) -> Vec<Arc<Event>> {
    let mut watch = world.server.store().watch(resource, Some(begin)).unwrap();
    let mut all = Vec::new();
    loop {
        let events = watch.read().unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events);
    }
}

impl Outcome {
    pub(crate) fn history(&self, plural: &str) -> &[Arc<Event>] {
        self.history.iter().find(|(name, _)| *name == plural).map_or(&[], |(_, events)| events)
    }

    /// Describes the requests, changes and final statuses of the run.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        let first = self.requests.first().map(|request| request.at);
        for request in &self.requests {
            let at = first.map_or(0.0, |first| (request.at - first).as_secs_f64());
            let harm = request.harm.map(|harm| format!(" {harm}")).unwrap_or_default();
            let (life, act, path) = (request.life, request.act, &request.path);
            let code = request.code.map_or_else(|| "-".to_owned(), |code| code.to_string());
            let _ = writeln!(
                text,
                "{at:8.2} life {life} {act} {} {}/{} {code}{harm}",
                request.resource(),
                path.namespace,
                path.name
            );
        }
        let mut changes: Vec<(u64, String)> = Vec::new();
        for (plural, events) in &self.history {
            for event in events {
                let object = &event.object.value;
                let replicas = object.pointer("/spec/replicas").cloned().unwrap_or_default();
                let line = format!(
                    "{:?} {plural} {} generation {} replicas {replicas}",
                    event.change,
                    event.key,
                    meta::text(object, "/metadata/generation")
                );
                changes.push((event.object.revision, line));
            }
        }
        changes.sort();
        for (revision, line) in changes {
            let _ = writeln!(text, "{revision:6} {line}");
        }
        for job in self.objects.iter().filter(|(plural, _)| *plural == "streamjobs").flat_map(|(_, jobs)| jobs) {
            let _ = writeln!(text, "{:#}", job["status"]);
        }
        text
    }
}
