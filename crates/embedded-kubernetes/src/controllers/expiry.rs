//! Deletes events an hour after they were last written. In a real cluster the store does this.

use super::core;
use super::drive::{Controller, Next};
use super::pods;
use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::status::Status;
use crate::store::{Change, Event};

/// The time that an event is kept, seconds.
const KEPT: i64 = 3600;

/// The expiry controller.
#[derive(Debug)]
pub(super) struct Expiry;

impl Controller for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn watched(&self, _: &Actor) -> Vec<Resource> {
        vec![core("events")]
    }

    fn affected(&mut self, _: &Actor, _: &Resource, event: &Event) -> Vec<String> {
        if event.change == Change::Deleted { Vec::new() } else { vec![event.key.clone()] }
    }

    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status> {
        let Some(event) = actor.get(&core("events"), key) else { return Ok(Next::Change) };
        let event = &event.value;
        let times = ["/lastTimestamp", "/series/lastObservedTime", "/eventTime", "/metadata/creationTimestamp"];
        let written = times.iter().filter_map(|time| pods::seconds(meta::text(event, time))).max().unwrap_or_default();
        let left = written.saturating_add(KEPT).saturating_sub(actor.clock().unix());
        if left > 0 {
            return Ok(Next::After(left));
        }
        actor.delete(event, "Background", None).map(|()| Next::Change)
    }
}
