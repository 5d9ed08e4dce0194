//! `ResourceQuotas`: recalculates how much is used. Admission increases the usage in between.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::core;
use super::drive::{Controller, Next};
use super::pods;
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::quantity::Quantity;
use crate::quota::{self, Amounts};
use crate::status::Status;
use crate::store::Event;

/// The quota controller.
#[derive(Debug)]
pub(super) struct Quotas;

fn quotas() -> Resource {
    core("resourcequotas")
}

impl Controller for Quotas {
    fn name(&self) -> &'static str {
        "quota"
    }

    fn watched(&self, actor: &Actor) -> Vec<Resource> {
        let mut all: BTreeSet<Resource> = [quotas()].into();
        for quota in actor.list(&quotas(), None) {
            let hard = quota.value.pointer("/spec/hard").and_then(Value::as_object).into_iter().flatten();
            all.extend(hard.map(|(name, _)| quota::counted_by(name)));
        }
        all.into_iter().collect()
    }

    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        if *resource == quotas() {
            // A quota may count quotas, so all in the namespace are affected.
            let namespace = meta::namespace(&event.object.value);
            return actor.list(&quotas(), Some(namespace)).iter().map(|quota| meta::key(&quota.value)).collect();
        }
        let all = actor.list(&quotas(), Some(meta::namespace(&event.object.value)));
        let counts = |quota: &Value| {
            let hard = quota.pointer("/spec/hard").and_then(Value::as_object).into_iter().flatten();
            hard.map(|(name, _)| name).any(|name| quota::counted_by(name) == *resource)
        };
        all.iter().filter(|quota| counts(&quota.value)).map(|quota| meta::key(&quota.value)).collect()
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        // No object is admitted between the counting and the write.
        let _locked = actor.lock_quotas();
        let Some(found) = actor.get(&quotas(), key) else { return Ok(Next::Change) };
        let quota = &found.value;
        let hard = quota.pointer("/spec/hard").cloned().unwrap_or_else(|| json!({}));
        let mut used: Amounts =
            hard.as_object().into_iter().flatten().map(|(name, _)| (name.clone(), Quantity::default())).collect();
        let counted: BTreeSet<Resource> = used.keys().map(|name| quota::counted_by(name)).collect();
        let kinds = actor.stored();
        for kind in kinds.iter().filter(|kind| counted.contains(&kind.resource())) {
            for object in actor.list(&kind.resource(), Some(meta::namespace(quota))) {
                for (name, amount) in quota::usage(kind, &object.value, quota) {
                    let sum = used.entry(name).or_default();
                    *sum = sum.plus(amount);
                }
            }
        }
        let used: Map<String, Value> =
            used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
        let status = json!({"hard": hard, "used": used});
        pods::ignore_gone(actor.set_status(quota, status))?;
        Ok(Next::Change)
    }
}
