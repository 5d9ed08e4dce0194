//! An object as a list or a watch brings it. One that cannot be read leaves the others readable.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Reads what can be read of it.
///
/// Whoever may write an object may write `metadata.managedFields` too, and the API server takes a time there that our types
/// do not hold, such as 9999-12-31T23:59:59Z: for one such object the list of all could not be read. Nothing of ours looks at these times.
#[derive(Debug, Clone)]
pub(crate) struct Watched<K>(pub(crate) DeserializeGuard<K>);

impl<'de, K: Deserialize<'de> + Resource> Deserialize<'de> for Watched<K>
where
    DeserializeGuard<K>: de::DeserializeOwned,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        let entries = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        DeserializeGuard::deserialize(object).map(Self).map_err(de::Error::custom)
    }
}

impl<K: Resource> Resource for Watched<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

impl<K> Watched<K> {
    /// The object; one that cannot be read is made of its metadata: it is there, and nothing else is known of it.
    pub(crate) fn or(self, bare: impl FnOnce(ObjectMeta) -> K) -> K {
        self.0.0.unwrap_or_else(|unreadable| {
            let (name, namespace) = (&unreadable.metadata.name, &unreadable.metadata.namespace);
            tracing::warn!(?name, ?namespace, error = %unreadable.error, "an object cannot be read, and counts as one of which nothing is known");
            bare(unreadable.metadata)
        })
    }
}

/// The same event of something else.
pub(crate) fn map<A, B>(event: Event<A>, change: impl FnOnce(A) -> B) -> Event<B> {
    match event {
        Event::Apply(object) => Event::Apply(change(object)),
        Event::Delete(object) => Event::Delete(change(object)),
        Event::InitApply(object) => Event::InitApply(change(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::*;

    /// Kubernetes takes the time, and the list of all pods cannot be read for it.
    #[test]
    fn a_time_that_our_types_do_not_hold_leaves_the_object_readable() {
        let pod = json!({
            "metadata": {"name": "p", "managedFields": [{"manager": "m", "time": "9999-12-31T23:59:59Z"}]},
            "status": {"phase": "Running"},
        });
        assert!(serde_json::from_value::<DeserializeGuard<Pod>>(pod.clone()).is_err(), "or this is not needed");
        let read = serde_json::from_value::<Watched<Pod>>(pod).unwrap().or(|_| Pod::default());
        assert_eq!(read.status.unwrap().phase.as_deref(), Some("Running"));
    }

    #[test]
    fn what_cannot_be_read_is_there_all_the_same() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": "none"}});
        let bare = |metadata| Pod { metadata, ..Pod::default() };
        let read = serde_json::from_value::<Watched<Pod>>(pod).unwrap().or(bare);
        assert_eq!((read.name_any().as_str(), read.spec.is_none()), ("p", true));
    }
}
