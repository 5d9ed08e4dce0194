//! `ReplicaSets`: as many pods of a template as are wished.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::condition::{self, Condition};
use super::drive::{Controller, Next};
use super::events::{Severity, record};
use super::{apps, core, pods, victims};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Event, Object};

const SOURCE: &str = "replicaset-controller";
/// The most pods that are created or deleted at a time.
const BURST: usize = 500;
const FAILURE: &str = "ReplicaFailure";

/// The controller.
#[derive(Debug)]
pub(super) struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![apps("replicasets"), core("pods")]
    }

    fn touched(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if resource.plural == "pods" {
            return pods::owners_of(actor, event, "ReplicaSet", "replicasets", "apps");
        }
        vec![event.key.clone()]
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(set) = actor.get(&apps("replicasets"), key) else { return Ok(Next::Change) };
        let set = &set.value;
        let all = pods::all(actor, meta::namespace(set)).into_iter().filter(|pod| pods::active(&pod.value));
        let mut mine = pods::claim(actor, set, all.collect(), |_| true)?;
        let wished = meta::number(set, "/spec/replicas").unwrap_or(1);
        let managed = if meta::deleting(set) { Ok(()) } else { manage(actor, set, &mut mine, wished) };
        let next = write_status(actor, set, &mine, wished, managed.as_ref().err())?;
        managed.map(|()| next)
    }
}

/// Creates or deletes pods. `mine` is left as it was found, but for the order.
fn manage(actor: &Actor, set: &Value, mine: &mut [Arc<Object>], wished: i64) -> Result<(), Status> {
    let wished = usize::try_from(wished).unwrap_or_default();
    if mine.len() < wished {
        let missing = (wished - mine.len()).min(BURST);
        return in_slow_batches(missing, |_| create(actor, set));
    }
    let surplus = (mine.len() - wished).min(BURST);
    if surplus == 0 {
        return Ok(());
    }
    let related = related(actor, set);
    victims::order(mine, &related, actor.clock().unix());
    for pod in mine.iter().take(surplus) {
        actor.delete(&pod.value, "Background", None).inspect_err(|status| {
            record(actor, SOURCE, set, Severity::Warning, "FailedDelete", &format!("Error deleting: {status}"));
        })?;
        let message = format!("Deleted pod: {}", meta::name(&pod.value));
        record(actor, SOURCE, set, Severity::Normal, "SuccessfulDelete", &message);
    }
    Ok(())
}

/// Does something so many times in batches of 1, 2, 4, …, so that what fails for all fails a few times only. A batch
/// with a failure is the last one.
pub(super) fn in_slow_batches(count: usize, mut act: impl FnMut(usize) -> Result<(), Status>) -> Result<(), Status> {
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
    let mut pod = pods::of_template(set.pointer("/spec/template").unwrap_or(&Value::Null), set);
    meta::set(&mut pod, "generateName", pods::prefix(set));
    match actor.create(pod) {
        Ok(pod) => {
            let message = format!("Created pod: {}", meta::name(&pod.value));
            record(actor, SOURCE, set, Severity::Normal, "SuccessfulCreate", &message);
            Ok(())
        }
        // Nothing is missing where everything goes.
        Err(status) if pods::namespace_is_going(&status) => Ok(()),
        Err(status) => {
            record(actor, SOURCE, set, Severity::Warning, "FailedCreate", &format!("Error creating: {status}"));
            Err(status)
        }
    }
}

/// The pods of all sets of the same controller: who stands beside whom is asked of these.
fn related(actor: &Actor, set: &Value) -> Vec<Arc<Object>> {
    let namespace = Some(meta::namespace(set));
    let owner = meta::controller(set).map(|owner| meta::text(owner, "/uid"));
    let sets = actor.list(&apps("replicasets"), namespace);
    let same = sets.iter().filter(|other| match owner {
        Some(owner) => meta::controlled_by(&other.value, owner),
        None => meta::uid(&other.value) == meta::uid(set),
    });
    let selectors: Vec<Selector> =
        same.map(|set| Selector::of_labels(set.value.pointer("/spec/selector").unwrap_or(&Value::Null))).collect();
    let mut all = pods::all(actor, meta::namespace(set));
    all.retain(|pod| selectors.iter().any(|selector| selector.selects(&pod.value)));
    all
}

fn write_status(
    actor: &Actor,
    set: &Value,
    mine: &[Arc<Object>],
    wished: i64,
    failure: Option<&Status>,
) -> Result<Next, Status> {
    let now = actor.clock().unix();
    let minimum = meta::number(set, "/spec/minReadySeconds").unwrap_or_default();
    let labels = json!({"matchLabels": set.pointer("/spec/template/metadata/labels")});
    let template = Selector::of_labels(&labels);
    let found = pods::count(mine.iter());
    let waits: Vec<i64> = mine.iter().filter_map(|pod| pods::available_in(&pod.value, minimum, now)).collect();

    let mut status: Map<String, Value> = set.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
    status.insert("replicas".to_owned(), found.into());
    pods::counts(
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
            let reason = if found < wished { "FailedCreate" } else { "FailedDelete" };
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
