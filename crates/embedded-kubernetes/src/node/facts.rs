//! The downward API: what a pod can learn about itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::quantity::Quantity;

/// The address of the machine.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The resources that the node offers to its pods.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Number of processors.
    pub(super) cpu: Quantity,
    /// Memory, bytes.
    pub(super) memory: Quantity,
}

/// Returns a field of the pod by its path. `None`: the downward API has no such field.
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
            let (map_path, key) = other.strip_suffix("']")?.split_once("['")?;
            let entries = match map_path {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return None,
            };
            map(entries).get(key).cloned().unwrap_or_default()
        }
    })
}

/// Formats a map as the downward API writes it into a file: one line for each key, sorted.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// Returns a resource of a container. A limit that is not set is the node's capacity.
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
    fn downward_api_returns_fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"x/y": "1", "b": "two \"2\""}},
            "spec": {"nodeName": "local", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "250m"}, "requests": {"memory": "64Mi"}}},
                {"name": "d"},
            ]},
        }))
        .unwrap();
        let address = Ipv4Addr::new(127, 64, 0, 1);
        let value = |path: &str| field(&pod, address, path);
        assert_eq!(value("metadata.name").unwrap(), "a");
        assert_eq!(value("status.podIP").unwrap(), "127.64.0.1");
        assert_eq!(value("metadata.labels['x/y']").unwrap(), "1");
        assert_eq!(value("metadata.labels").unwrap(), "b=\"two \\\"2\\\"\"\nx/y=\"1\"");
        assert_eq!(value("metadata.annotations['none']").unwrap(), "");
        assert_eq!(value("spec.something"), None);
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
