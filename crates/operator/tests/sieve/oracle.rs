//! Compares a run with the one without faults.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use embedded_kubernetes::meta;
use embedded_kubernetes::store::{Change, Event};

use crate::run::Outcome;
use sluice_testkit::world::ends::{ends, list, named};

/// Number of objects with each name.
type Counts = BTreeMap<String, u32>;

/// Describes the differences from the run without faults, one per line; empty if there are none.
pub(crate) fn compare(reference: &Outcome, outcome: &Outcome) -> String {
    let mut wrong = String::new();
    if outcome.panics > 0 {
        let _ = writeln!(wrong, "    panics: {}", outcome.panics);
    }
    if !outcome.all_done {
        let _ = writeln!(wrong, "    a fault of the plan matched no request");
    }
    if outcome.too_many {
        let _ = writeln!(wrong, "    {} requests without an end", outcome.requests.len());
    }
    if outcome.keeps_writing {
        let _ = writeln!(wrong, "    the operator keeps writing");
    }
    for ((plural, before), (_, after)) in reference.objects.iter().zip(&outcome.objects) {
        let (before, after) = (ends(plural, before), ends(plural, after));
        for line in before.difference(&after) {
            let _ = writeln!(wrong, "    missing: {line}");
        }
        for line in after.difference(&before) {
            let _ = writeln!(wrong, "    unexpected: {line}");
        }
    }
    for ((plural, before), (_, after)) in reference.history.iter().zip(&outcome.history) {
        for change in [Change::Added, Change::Deleted] {
            let (before, after) = (counts(before, change), counts(after, change));
            if before != after {
                let _ = writeln!(wrong, "    {change:?} {plural}: {after:?} instead of {before:?}");
            }
        }
    }
    check_invariants(outcome, &mut wrong);
    wrong
}

fn counts(events: &[std::sync::Arc<Event>], change: Change) -> Counts {
    let mut counts = Counts::new();
    for event in events.iter().filter(|event| event.change == change) {
        *counts.entry(named(&event.object.value)).or_default() += 1;
    }
    counts
}

/// Checks invariants that must hold in every state.
fn check_invariants(outcome: &Outcome, wrong: &mut String) {
    for event in outcome.history("deployments").iter().chain(outcome.history("statefulsets")) {
        let object = &event.object.value;
        let revision = event.object.revision;
        if meta::name(object) == "bystander" {
            let foreign = list(object, "/metadata/managedFields")
                .iter()
                .any(|entry| meta::text(entry, "/manager").starts_with("sluice"));
            if foreign || object["spec"]["replicas"] != 2 {
                let _ = writeln!(wrong, "    {revision}: a workload of another owner was changed");
            }
            continue;
        }
        let owners = list(object, "/metadata/ownerReferences");
        if owners.iter().filter(|owner| owner["controller"] == true).count() != 1 {
            let _ = writeln!(wrong, "    {revision}: not exactly one controller: {owners:?}");
        }
        let replicas = object["spec"]["replicas"].as_u64().unwrap_or(u64::MAX);
        let least = u64::from(!was_suspended(outcome, revision));
        if !(least..=8).contains(&replicas) {
            let _ = writeln!(wrong, "    {revision}: {replicas} workers");
        }
    }
}

/// Returns whether the job was suspended at any time before a revision.
fn was_suspended(outcome: &Outcome, revision: u64) -> bool {
    let before = outcome.history("streamjobs").iter().filter(|event| event.object.revision <= revision);
    before.map(|event| &event.object.value).any(|job| job["spec"]["suspend"] == true)
}
