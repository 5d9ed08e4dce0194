//! Decoding of objects in lists and watches. An object that cannot be decoded does not affect the others.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// An object of a list or a watch, decoded as far as possible.
///
/// A client that may write an object may write `metadata.managedFields`, too, and the API server accepts times there
/// that the Rust types cannot represent, such as 9999-12-31T23:59:59Z. One such object would make the whole list
/// undecodable. The operator does not use these times, so they are removed.
#[derive(Debug, Clone)]
pub(crate) struct TolerantObject<K>(pub(crate) DeserializeGuard<K>);

impl<'de, K: Deserialize<'de> + Resource> Deserialize<'de> for TolerantObject<K>
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

impl<K: Resource> Resource for TolerantObject<K> {
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

impl<K> TolerantObject<K> {
    /// Returns the object. If it cannot be decoded, `bare` makes one from its metadata: it exists, but its state is
    /// unknown.
    pub(crate) fn into_object_or(self, bare: impl FnOnce(ObjectMeta) -> K) -> K {
        self.0.0.unwrap_or_else(|unreadable| {
            let (name, namespace) = (&unreadable.metadata.name, &unreadable.metadata.namespace);
            tracing::warn!(?name, ?namespace, error = %unreadable.error, "cannot decode object; treating its state as unknown");
            bare(unreadable.metadata)
        })
    }
}

/// Converts the object of an event.
pub(crate) fn map_event<A, B>(event: Event<A>, change: impl FnOnce(A) -> B) -> Event<B> {
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

    /// Kubernetes accepts the time, and the list of all pods could not be decoded because of it.
    #[test]
    fn managed_fields_time_out_of_range_is_ignored() {
        let pod = json!({
            "metadata": {"name": "p", "managedFields": [{"manager": "m", "time": "9999-12-31T23:59:59Z"}]},
            "status": {"phase": "Running"},
        });
        assert!(
            serde_json::from_value::<DeserializeGuard<Pod>>(pod.clone()).is_err(),
            "otherwise the removal of times is not needed"
        );
        let read = serde_json::from_value::<TolerantObject<Pod>>(pod).unwrap().into_object_or(|_| Pod::default());
        assert_eq!(read.status.unwrap().phase.as_deref(), Some("Running"));
    }

    #[test]
    fn undecodable_object_keeps_its_metadata() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": "none"}});
        let bare = |metadata| Pod { metadata, ..Pod::default() };
        let read = serde_json::from_value::<TolerantObject<Pod>>(pod).unwrap().into_object_or(bare);
        assert_eq!((read.name_any().as_str(), read.spec.is_none()), ("p", true));
    }
}
