//! Records events about objects. A repeated event increases a count.

use serde_json::{Value, json};

use crate::api::Actor;
use crate::kinds::Resource;
use crate::meta;
use crate::random::hash;
use crate::store;

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Records an event about an object. A failure is only logged, because nothing depends on events. `source` names the
/// component.
pub(crate) fn record_event(
    actor: &Actor,
    source: &str,
    about: &Value,
    severity: Severity,
    reason: &str,
    message: &str,
) {
    let severity = if severity == Severity::Normal { "Normal" } else { "Warning" };
    let namespace = Some(meta::namespace(about)).filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    // The same object, reason and message give the same name.
    let number = hash(&json!([meta::uid(about), severity, reason, message, source]));
    let name = format!("{}.{number:016x}", meta::name(about));
    let now = actor.clock().now();
    let known = actor.get(&Resource::new("", "events"), &store::key(namespace, &name));
    let written = if let Some(known) = known {
        let mut event = known.value.clone();
        let count = meta::number(&event, "/count").unwrap_or(1).saturating_add(1);
        let map = meta::as_map(&mut event);
        map.insert("count".to_owned(), count.into());
        map.insert("lastTimestamp".to_owned(), now.into());
        actor.replace(&event, "")
    } else {
        actor.create(json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": meta::text(about, "/apiVersion"), "kind": meta::text(about, "/kind"),
                "namespace": meta::namespace(about), "name": meta::name(about), "uid": meta::uid(about),
                "resourceVersion": meta::resource_version(about),
            },
            "type": severity, "reason": reason, "message": message,
            "source": {"component": source}, "reportingComponent": source, "reportingInstance": "",
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        }))
    };
    if let Err(status) = written {
        tracing::debug!(reason, message, error = %status, "failed to record an event");
    }
}
