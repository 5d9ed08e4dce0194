//! What a pod can be told about itself: the downward API.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::quantity::Quantity;

/// The address of the machine.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What the node gives to its pods.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Processors.
    pub(super) cpu: Quantity,
    /// Bytes.
    pub(super) memory: Quantity,
}

/// A field of the pod, by its path. `None`: there is no such field that could be told.
pub(super) fn field(pod: &Pod, address: Ipv4Addr, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let map = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    Some(match path {
        "metadata.name" => metadata.name.clone()?,
        "metadata.namespace" => metadata.namespace.clone()?,
        "metadata.uid" => metadata.uid.clone()?,
        "metadata.labels" => lines(&map(&metadata.labels)),
        "metadata.annotations" => lines(&map(&metadata.annotations)),
        "spec.nodeName" => spec?.node_name.clone()?,
        "spec.serviceAccountName" => spec?.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        "status.podIP" | "status.podIPs" => address.to_string(),
        "status.hostIP" | "status.hostIPs" => HOST.to_string(),
        other => {
            let (of, key) = other.strip_suffix("']")?.split_once("['")?;
            let of = match of {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return None,
            };
            map(of).get(key).cloned().unwrap_or_default()
        }
    })
}

/// A map as the downward API writes it into a file: a line for each key, sorted.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A resource of a container. A limit that is not set is what the node has.
pub(super) fn resource(pod: &Pod, own: &Container, node: Capacity, asked: &ResourceFieldSelector) -> Option<String> {
    let container = match asked.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => pod.spec.as_ref()?.containers.iter().find(|container| container.name == name)?,
        None => own,
    };
    let (kind, name) = asked.resource.split_once('.')?;
    let resources = container.resources.clone().unwrap_or_default();
    let map = match kind {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return None,
    };
    let given = map.and_then(|map| Quantity::parse(&map.get(name)?.0));
    let amount = match (given, kind, name) {
        (Some(given), ..) => given,
        (None, "limits", "cpu") => node.cpu,
        (None, "limits", "memory") => node.memory,
        (None, ..) => Quantity::default(),
    };
    let divisor = asked.divisor.as_ref().and_then(|divisor| Quantity::parse(&divisor.0)).unwrap_or_default();
    Some(amount.in_units_of(divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_told_what_it_asks_for() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"x/y": "1", "b": "two \"2\""}},
            "spec": {"nodeName": "local", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "250m"}, "requests": {"memory": "64Mi"}}},
                {"name": "d"},
            ]},
        }))
        .unwrap();
        let address = Ipv4Addr::new(127, 64, 0, 1);
        let told = |path: &str| field(&pod, address, path);
        assert_eq!(told("metadata.name").unwrap(), "a");
        assert_eq!(told("status.podIP").unwrap(), "127.64.0.1");
        assert_eq!(told("metadata.labels['x/y']").unwrap(), "1");
        assert_eq!(told("metadata.labels").unwrap(), "b=\"two \\\"2\\\"\"\nx/y=\"1\"");
        assert_eq!(told("metadata.annotations['none']").unwrap(), "");
        assert_eq!(told("spec.something"), None);
        let node = Capacity { cpu: Quantity::whole(2), memory: Quantity::whole(1 << 30) };
        let containers = &pod.spec.as_ref().unwrap().containers;
        let resource = |container: usize, name: &str, divisor: &str| {
            let asked = json!({"resource": name, "divisor": divisor});
            resource(&pod, &containers[container], node, &serde_json::from_value(asked).unwrap()).unwrap()
        };
        assert_eq!(resource(0, "limits.cpu", "1m"), "250");
        assert_eq!(resource(0, "requests.memory", "1Mi"), "64");
        assert_eq!(resource(1, "limits.cpu", "0"), "2");
        assert_eq!(resource(1, "limits.memory", "1Mi"), "1024");
        assert_eq!(resource(1, "requests.cpu", "1"), "0");
    }
}
