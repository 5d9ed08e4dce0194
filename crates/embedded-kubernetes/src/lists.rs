//! How the lists and maps of the built-in kinds are put together from several writers: which lists are keyed, by what,
//! and which maps are taken as a whole. A strategic merge and a server-side apply ask here; they do not agree
//! everywhere, for their rules were written down years apart.
//!
//! Where a field stands decides: `kind`, and the names of the fields above it, lists left out
//! (`["spec", "template", "spec", "containers"]` for what stands in a container of a Deployment). Taken from the
//! markers of the API types of Kubernetes 1.34.

/// How a list is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// As a whole.
    Atomic,
    /// By value: no value twice.
    Set,
    /// By the values of these keys.
    Keyed(&'static [&'static str]),
}

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// The pod template's own specification and a pod's: the only things called `spec` that have these lists.
fn in_pod_spec(parents: &[&str]) -> bool {
    parents.last() == Some(&"spec")
}

/// How a server-side apply puts the list `field` together.
pub fn applied(kind: &str, parents: &[&str], field: &str) -> List {
    let parent = parents.last().copied().unwrap_or_default();
    let container = CONTAINERS.contains(&parent);
    let own_status = parents == ["status"];
    match field {
        "ownerReferences" if parent == "metadata" => List::Keyed(&["uid"]),
        "finalizers" if parent == "metadata" => List::Set,
        "env" if container => List::Keyed(&["name"]),
        "ports" if container => List::Keyed(&["containerPort", "protocol"]),
        "ports" if kind == "Service" && parents == ["spec"] => List::Keyed(&["port", "protocol"]),
        "volumeDevices" if container => List::Keyed(&["devicePath"]),
        "volumeMounts" if container || parent.ends_with("ontainerStatuses") => List::Keyed(&["mountPath"]),
        "claims" if parent == "resources" => List::Keyed(&["name"]),
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims"
        | "schedulingGates"
            if in_pod_spec(parents) =>
        {
            List::Keyed(&["name"])
        }
        "hostAliases" if in_pod_spec(parents) => List::Keyed(&["ip"]),
        "topologySpreadConstraints" if in_pod_spec(parents) => List::Keyed(&["topologyKey", "whenUnsatisfiable"]),
        "conditions" if own_status && kind != "Job" => List::Keyed(&["type"]),
        "addresses" if own_status && kind == "Node" => List::Keyed(&["type"]),
        "podIPs" if own_status => List::Keyed(&["ip"]),
        "resourceClaimStatuses" if own_status => List::Keyed(&["name"]),
        "podCIDRs" if kind == "Node" => List::Set,
        "secrets" if kind == "ServiceAccount" => List::Keyed(&["name"]),
        "failed" | "succeeded" if parent == "uncountedTerminatedPods" => List::Set,
        "values" if parent == "onExitCodes" => List::Set,
        _ => List::Atomic,
    }
}

/// Whether a server-side apply takes the map `field` as a whole.
pub fn applied_as_a_whole(kind: &str, parents: &[&str], field: &str) -> bool {
    let parent = parents.last().copied().unwrap_or_default();
    match field {
        // A label selector, wherever it stands; and the plain maps of the oldest kinds.
        "selector" | "labelSelector" | "namespaceSelector" | "podSelector" => !parents.is_empty(),
        "nodeSelector" => in_pod_spec(parents),
        "requiredDuringSchedulingIgnoredDuringExecution" => parent == "nodeAffinity",
        "roleRef" => kind.ends_with("RoleBinding"),
        "involvedObject" | "regarding" | "related" => kind == "Event",
        "claimRef" => kind == "PersistentVolume",
        // An item of a list: an owner is one thing.
        "ownerReferences" => parent == "metadata",
        // References, wherever they stand.
        "configMapKeyRef"
        | "secretKeyRef"
        | "fieldRef"
        | "resourceFieldRef"
        | "fileKeyRef"
        | "secretRef"
        | "nodePublishSecretRef"
        | "dataSource"
        | "scopeSelector"
        | "imagePullSecrets"
        | "secrets" => true,
        _ => false,
    }
}

/// What the key of a list item counts as when the item does not give it.
pub fn key_default(field: &str) -> Option<&'static str> {
    (field == "protocol").then_some("TCP")
}

/// How a strategic merge puts the list `field` together. It knows one key at most, the first.
pub fn merged(kind: &str, parents: &[&str], field: &str) -> List {
    let own_status = parents == ["status"];
    match field {
        // Not declared in the types of this one kind.
        "conditions" if kind == "CustomResourceDefinition" => List::Atomic,
        "conditions" if own_status => List::Keyed(&["type"]),
        "hostIPs" if own_status => List::Keyed(&["ip"]),
        "claims" | "failed" | "succeeded" | "values" => List::Atomic,
        _ => applied(kind, parents, field),
    }
}

/// Whether a strategic merge takes the map `field` as a whole.
pub fn merged_as_a_whole(kind: &str, parents: &[&str], field: &str) -> bool {
    kind == "PodDisruptionBudget" && parents == ["spec"] && field == "selector"
}
