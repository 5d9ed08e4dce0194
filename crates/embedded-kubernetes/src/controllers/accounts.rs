//! Creates the service account `default` in each namespace.

use serde_json::json;

use super::core;
use super::drive::{Controller, Next};
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::{self, Event};

/// The service account controller.
#[derive(Debug)]
pub(super) struct Accounts;

impl Controller for Accounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![core("namespaces"), core("serviceaccounts")]
    }

    fn affected(&mut self, _: &Actor, resource: &Resource, event: &Event) -> Vec<String> {
        let object = &event.object.value;
        match resource.plural.as_str() {
            "namespaces" => vec![event.key.clone()],
            _ if meta::name(object) == "default" => vec![meta::namespace(object).to_owned()],
            _ => Vec::new(),
        }
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let namespace = actor.get(&core("namespaces"), key).filter(|namespace| !meta::deleting(&namespace.value));
        if namespace.is_none() || actor.get(&core("serviceaccounts"), &store::key(key, "default")).is_some() {
            return Ok(Next::Change);
        }
        actor.create(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key},
        }))?;
        Ok(Next::Change)
    }
}
