//! The revisions of a `StatefulSet`: each template that it has had is stored as a `ControllerRevision`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::Actor;
use crate::controllers::{apps, pods};
use crate::meta;
use crate::random::{hash, letters};
use crate::status::Status;
use crate::store::Object;

const HASH: &str = "controller.kubernetes.io/hash";

/// The revisions of a set.
pub(super) struct Revisions {
    /// All revisions, oldest first.
    all: Vec<Arc<Object>>,
    current: Arc<Object>,
    update: Arc<Object>,
    collisions: i64,
}

fn number(revision: &Value) -> i64 {
    meta::number(revision, "/revision").unwrap_or_default()
}

impl Revisions {
    /// Reads the revisions of a set. Writes a revision of the current template if there is none, or if it is not the
    /// newest.
    pub(super) fn load(actor: &Actor, set: &Value) -> Result<Self, Status> {
        let mut all = actor.list(&apps("controllerrevisions"), Some(meta::namespace(set)));
        all.retain(|revision| meta::controlled_by(&revision.value, meta::uid(set)));
        all.sort_by(|a, b| number(&a.value).cmp(&number(&b.value)).then_with(|| a.revision.cmp(&b.revision)));
        let mut template = set.pointer("/spec/template").cloned().unwrap_or_default();
        meta::as_map(&mut template).insert("$patch".to_owned(), "replace".into());
        let data = json!({"spec": {"template": template}});
        let newest = all.last().map_or(0, |newest| number(&newest.value));
        let collisions = meta::number(set, "/status/collisionCount").unwrap_or_default();
        let equal = all.iter().rposition(|revision| revision.value.get("data") == Some(&data));
        let update = match equal {
            Some(at) if at + 1 == all.len() => all.last().cloned(),
            Some(at) => {
                let mut again = all.remove(at).value.clone();
                meta::as_map(&mut again).insert("revision".to_owned(), (newest + 1).into());
                Some(actor.replace(&again, "")?)
            }
            None => None,
        };
        let update = match update {
            Some(update) => update,
            None => create(actor, set, &data, newest + 1, collisions)?,
        };
        if all.last().is_none_or(|last| meta::name(&last.value) != meta::name(&update.value)) {
            all.push(Arc::clone(&update));
        }
        let current = meta::text(set, "/status/currentRevision");
        let current = all.iter().find(|revision| meta::name(&revision.value) == current).cloned();
        let current = current.unwrap_or_else(|| Arc::clone(&update));
        Ok(Self { all, current, update, collisions })
    }

    pub(super) fn current_name(&self) -> &str {
        meta::name(&self.current.value)
    }

    pub(super) fn update_name(&self) -> &str {
        meta::name(&self.update.value)
    }

    pub(super) fn collisions(&self) -> i64 {
        self.collisions
    }

    /// Returns the revision and the template for a new pod.
    pub(super) fn template(&self, set: &Value, old: bool) -> (&str, Value) {
        if !old {
            return (self.update_name(), set.pointer("/spec/template").cloned().unwrap_or_default());
        }
        let mut template = self.current.value.pointer("/data/spec/template").cloned().unwrap_or_default();
        meta::as_map(&mut template).remove("$patch");
        (self.current_name(), template)
    }

    /// Deletes the oldest revisions that no pod uses, beyond the revision history limit.
    pub(super) fn delete_unused(&self, actor: &Actor, set: &Value, pods: &[Value]) -> Result<(), Status> {
        let Some(limit) = meta::number(set, "/spec/revisionHistoryLimit").and_then(|limit| usize::try_from(limit).ok())
        else {
            return Ok(());
        };
        let used = |name: &str| {
            name == self.current_name()
                || name == self.update_name()
                || pods.iter().any(|pod| meta::label(pod, super::REVISION) == Some(name))
        };
        let unused: Vec<_> = self.all.iter().filter(|revision| !used(meta::name(&revision.value))).collect();
        let surplus = unused.len().saturating_sub(limit);
        unused.into_iter().take(surplus).try_for_each(|revision| actor.delete(&revision.value, "Background", None))
    }
}

fn create(actor: &Actor, set: &Value, data: &Value, number: i64, collisions: i64) -> Result<Arc<Object>, Status> {
    // If the name is already in use, the next attempt has another hash.
    for attempt in collisions..=collisions + 8 {
        let hash = letters(hash(&json!([data, attempt])), 10);
        let mut labels = set.pointer("/spec/template/metadata/labels").cloned().unwrap_or_default();
        meta::as_map(&mut labels).insert(HASH.to_owned(), hash.as_str().into());
        let created = actor.create(json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": format!("{}-{hash}", meta::name(set)), "namespace": meta::namespace(set),
                "labels": labels, "ownerReferences": [pods::reference(set)],
            },
            "data": data, "revision": number,
        }));
        match created {
            Err(status) if status.reason == "AlreadyExists" => {}
            other => return other,
        }
    }
    Err(Status::already_exists("apps", "controllerrevisions", meta::name(set)))
}
