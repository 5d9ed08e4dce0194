//! `PodDisruptionBudgets`: calculates how many pods may be evicted now.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::condition::{self, Condition};
use super::drive::{Controller, Next};
use super::events::{Severity, record_event};
use super::scaled::{self, Round};
use super::{apps, core, pods};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{self, Event, Object};

const SOURCE: &str = "controllermanager";
/// The longest time between an eviction and the deletion of the pod. After it the pod counts as healthy again,
/// seconds.
const EVICTION_TIMEOUT: i64 = 120;

/// The disruption controller.
#[derive(Debug)]
pub(super) struct Budgets;

fn budgets() -> Resource {
    Resource::new("policy", "poddisruptionbudgets")
}

impl Controller for Budgets {
    fn name(&self) -> &'static str {
        "disruption"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![budgets(), core("pods"), apps("deployments"), apps("replicasets"), apps("statefulsets")]
    }

    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if *resource == budgets() {
            return vec![event.key.clone()];
        }
        let namespace = meta::namespace(&event.object.value);
        let all = actor.list(&budgets(), Some(namespace));
        let states = || [Some(&event.object), event.previous.as_ref()].into_iter().flatten();
        let concerned = all.iter().filter(|budget| {
            // A change of a pod's owner can matter to all budgets, because percentages refer to its replica count.
            resource.plural != "pods" || states().any(|pod| covers(&budget.value, &pod.value))
        });
        concerned.map(|budget| meta::key(&budget.value)).collect()
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(budget) = actor.get(&budgets(), key) else { return Ok(Next::Change) };
        let budget = &budget.value;
        let mut covered = pods::all(actor, meta::namespace(budget));
        covered.retain(|pod| covers(budget, &pod.value));
        let now = actor.clock().unix();
        let mut status: Map<String, Value> =
            budget.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        let (disrupted, next) = disrupted(&status, &covered, now);
        let healthy = covered
            .iter()
            .map(|pod| &pod.value)
            .filter(|pod| pods::ready(pod) && !meta::deleting(pod) && !disrupted.contains_key(meta::name(pod)));
        let current = pods::count(healthy);
        let (expected, desired, failure) = match expect(actor, budget, &covered) {
            Ok((expected, desired)) => (expected, desired, None),
            // If the pods cannot be counted, no disruption is allowed.
            Err(message) => (0, count_in(&status, "desiredHealthy"), Some(message)),
        };
        let allowed = if expected > 0 && failure.is_none() { (current - desired).max(0) } else { 0 };
        let counts = [
            ("currentHealthy", current),
            ("desiredHealthy", desired),
            ("disruptionsAllowed", allowed),
            ("expectedPods", expected),
            ("observedGeneration", meta::generation(budget)),
        ];
        for (key, count) in counts {
            status.insert(key.to_owned(), count.into());
        }
        if disrupted.is_empty() {
            status.remove("disruptedPods");
        } else {
            status.insert("disruptedPods".to_owned(), disrupted.into());
        }
        let (is, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        let reason = if failure.is_some() { "SyncFailed" } else { reason };
        let message = failure.unwrap_or_default();
        let condition = Condition { kind: "DisruptionAllowed", status: is, reason, message: &message };
        let extra = json!({"observedGeneration": meta::generation(budget)});
        condition::set(&mut status, condition, &actor.clock().now(), extra);
        pods::ignore_gone(actor.set_status(budget, Value::Object(status)))?;
        if !message.is_empty() {
            record_event(actor, SOURCE, budget, Severity::Warning, "CalculateExpectedPodCountFailed", &message);
        }
        Ok(next)
    }
}

fn count_in(status: &Map<String, Value>, key: &str) -> i64 {
    status.get(key).and_then(Value::as_i64).unwrap_or_default()
}

fn covers(budget: &Value, pod: &Value) -> bool {
    budget.pointer("/spec/selector").is_some_and(|selector| Selector::from_label_selector(selector).selects(pod))
}

/// Returns the pods whose eviction has been allowed and that are not being deleted yet, and when the first of them
/// times out.
fn disrupted(status: &Map<String, Value>, covered: &[Arc<Object>], now: i64) -> (Map<String, Value>, Next) {
    let mut next = Next::Change;
    let mut kept = Map::new();
    let known = status.get("disruptedPods").and_then(Value::as_object);
    for (name, time) in known.into_iter().flatten() {
        let there = covered.iter().any(|pod| meta::name(&pod.value) == name && !meta::deleting(&pod.value));
        let until = time.as_str().and_then(pods::seconds).unwrap_or_default() + EVICTION_TIMEOUT;
        if there && until > now {
            kept.insert(name.clone(), time.clone());
            next = next.or(Next::After(until - now));
        }
    }
    (kept, next)
}

/// Returns the expected number of pods and the number that must be healthy, or why they cannot be calculated.
fn expect(actor: &Actor, budget: &Value, covered: &[Arc<Object>]) -> Result<(i64, i64), String> {
    if let Some(most) = budget.pointer("/spec/maxUnavailable") {
        let expected = expected(actor, budget, covered)?;
        return Ok((expected, (expected - scaled::resolve(Some(most), expected, Round::Up)).max(0)));
    }
    match budget.pointer("/spec/minAvailable") {
        Some(least) if scaled::is_percentage(least) => {
            let expected = expected(actor, budget, covered)?;
            Ok((expected, scaled::resolve(Some(least), expected, Round::Up)))
        }
        least => Ok((pods::count(covered.iter()), scaled::resolve(least, 0, Round::Up))),
    }
}

/// Returns the sum of the replica counts of the pods' owners.
fn expected(actor: &Actor, budget: &Value, covered: &[Arc<Object>]) -> Result<i64, String> {
    let mut scales: BTreeMap<String, i64> = BTreeMap::new();
    for pod in covered {
        let Some(owner) = meta::controller(&pod.value) else {
            let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the \
                           status of the PDB cannot be calculated correctly, which may result in undefined behavior. \
                           To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer \
                           value.";
            record_event(actor, SOURCE, budget, Severity::Warning, "UnmanagedPods", message);
            continue;
        };
        let namespace = meta::namespace(&pod.value);
        let (uid, scale) = scale(actor, namespace, owner)
            .ok_or_else(|| format!("found no controllers for pod {:?}", meta::name(&pod.value)))?;
        scales.insert(uid, scale);
    }
    Ok(scales.values().sum())
}

/// Returns the uid and replica count of an owner. For a `ReplicaSet` of a Deployment they are those of the Deployment.
fn scale(actor: &Actor, namespace: &str, owner: &Value) -> Option<(String, i64)> {
    let kind = actor.kind(owner)?;
    let found = actor.get(&kind.resource(), &store::key(namespace, meta::text(owner, "/name")))?;
    let found = &found.value;
    if meta::uid(found) != meta::text(owner, "/uid") {
        return None;
    }
    if kind.is("apps", "ReplicaSet")
        && let Some(deployment) = meta::controller(found).and_then(|owner| scale(actor, namespace, owner))
    {
        return Some(deployment);
    }
    let path = kind.scale.as_ref()?.spec.replace('.', "/");
    Some((meta::uid(found).to_owned(), meta::number(found, &path)?))
}
