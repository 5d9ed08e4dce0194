//! `ReplicaSets`: keep the desired number of pods of a template.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::condition::{self, Condition};
use super::drive::{Controller, Next};
use super::events::{Severity, record_event};
use super::{apps, core, pods, victims};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Event, Object};

const SOURCE: &str = "replicaset-controller";
/// The most pods that are created or deleted in one pass.
const BURST: usize = 500;
const FAILURE: &str = "ReplicaFailure";

/// The replica set controller.
#[derive(Debug)]
pub(super) struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![apps("replicasets"), core("pods")]
    }

    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if resource.plural == "pods" {
            return pods::affected_owners(actor, event, "ReplicaSet", "replicasets", "apps");
        }
        vec![event.key.clone()]
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(set) = actor.get(&apps("replicasets"), key) else { return Ok(Next::Change) };
        let set = &set.value;
        let all = pods::all(actor, meta::namespace(set)).into_iter().filter(|pod| pods::active(&pod.value));
        let mut mine = pods::claim(actor, set, all.collect(), |_| true)?;
        let desired = meta::number(set, "/spec/replicas").unwrap_or(1);
        let managed = if meta::deleting(set) { Ok(()) } else { manage(actor, set, &mut mine, desired) };
        let next = write_status(actor, set, &mine, desired, managed.as_ref().err())?;
        managed.map(|()| next)
    }
}

/// Creates or deletes pods. The contents of `mine` stay as they are, but their order changes.
fn manage(actor: &Actor, set: &Value, mine: &mut [Arc<Object>], desired: i64) -> Result<(), Status> {
    let desired = usize::try_from(desired).unwrap_or_default();
    if mine.len() < desired {
        let missing = (desired - mine.len()).min(BURST);
        return in_growing_batches(missing, |_| create(actor, set));
    }
    let surplus = (mine.len() - desired).min(BURST);
    if surplus == 0 {
        return Ok(());
    }
    let related = related(actor, set);
    victims::sort_for_deletion(mine, &related, actor.clock().unix());
    for pod in mine.iter().take(surplus) {
        actor.delete(&pod.value, "Background", None).inspect_err(|status| {
            record_event(actor, SOURCE, set, Severity::Warning, "FailedDelete", &format!("Error deleting: {status}"));
        })?;
        let message = format!("Deleted pod: {}", meta::name(&pod.value));
        record_event(actor, SOURCE, set, Severity::Normal, "SuccessfulDelete", &message);
    }
    Ok(())
}

/// Calls `act` `count` times, in batches of 1, 2, 4, …, and stops after the first batch with a failure. A failure that
/// affects all calls then occurs only a few times.
pub(super) fn in_growing_batches(count: usize, mut act: impl FnMut(usize) -> Result<(), Status>) -> Result<(), Status> {
    let (mut done, mut batch) = (0, 1);
    while done < count {
        let end = (done + batch).min(count);
        let outcomes: Vec<_> = (done..end).map(&mut act).collect();
        outcomes.into_iter().collect::<Result<(), _>>()?;
        (done, batch) = (end, batch * 2);
    }
    Ok(())
}

fn create(actor: &Actor, set: &Value) -> Result<(), Status> {
    let mut pod = pods::from_template(set.pointer("/spec/template").unwrap_or(&Value::Null), set);
    meta::set(&mut pod, "generateName", pods::prefix(set));
    match actor.create(pod) {
        Ok(pod) => {
            let message = format!("Created pod: {}", meta::name(&pod.value));
            record_event(actor, SOURCE, set, Severity::Normal, "SuccessfulCreate", &message);
            Ok(())
        }
        // A set in a namespace that is being deleted needs no pods.
        Err(status) if pods::namespace_is_terminating(&status) => Ok(()),
        Err(status) => {
            record_event(actor, SOURCE, set, Severity::Warning, "FailedCreate", &format!("Error creating: {status}"));
            Err(status)
        }
    }
}

/// Returns the pods of all sets of the same controller. Which pods share a node is determined among these.
fn related(actor: &Actor, set: &Value) -> Vec<Arc<Object>> {
    let namespace = Some(meta::namespace(set));
    let owner = meta::controller(set).map(|owner| meta::text(owner, "/uid"));
    let sets = actor.list(&apps("replicasets"), namespace);
    let same = sets.iter().filter(|other| match owner {
        Some(owner) => meta::controlled_by(&other.value, owner),
        None => meta::uid(&other.value) == meta::uid(set),
    });
    let selectors: Vec<Selector> = same
        .map(|set| Selector::from_label_selector(set.value.pointer("/spec/selector").unwrap_or(&Value::Null)))
        .collect();
    let mut all = pods::all(actor, meta::namespace(set));
    all.retain(|pod| selectors.iter().any(|selector| selector.selects(&pod.value)));
    all
}

fn write_status(
    actor: &Actor,
    set: &Value,
    mine: &[Arc<Object>],
    desired: i64,
    failure: Option<&Status>,
) -> Result<Next, Status> {
    let now = actor.clock().unix();
    let minimum = meta::number(set, "/spec/minReadySeconds").unwrap_or_default();
    let labels = json!({"matchLabels": set.pointer("/spec/template/metadata/labels")});
    let template = Selector::from_label_selector(&labels);
    let found = pods::count(mine.iter());
    let waits: Vec<i64> = mine.iter().filter_map(|pod| pods::available_in(&pod.value, minimum, now)).collect();

    let mut status: Map<String, Value> = set.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
    status.insert("replicas".to_owned(), found.into());
    pods::set_counts(
        &mut status,
        &[
            ("fullyLabeledReplicas", pods::count(mine.iter().filter(|pod| template.selects(&pod.value)))),
            ("readyReplicas", pods::count(waits.iter())),
            ("availableReplicas", pods::count(waits.iter().filter(|wait| **wait == 0))),
            ("observedGeneration", meta::generation(set)),
        ],
    );
    match failure {
        Some(failure) if condition::find(&status, FAILURE).is_none() => {
            let reason = if found < desired { "FailedCreate" } else { "FailedDelete" };
            let condition = Condition { kind: FAILURE, status: "True", reason, message: &failure.message };
            condition::set(&mut status, condition, &actor.clock().now(), Value::Null);
        }
        None => condition::remove(&mut status, FAILURE),
        Some(_) => {}
    }
    pods::ignore_gone(actor.set_status(set, Value::Object(status)))?;
    let soonest = waits.into_iter().filter(|wait| *wait > 0).min();
    Ok(soonest.map_or(Next::Change, Next::After))
}
