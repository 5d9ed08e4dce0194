//! How the lists and maps of the built-in kinds are merged when several writers change them: which lists are keyed, by
//! which fields, and which maps are replaced as a whole.
//!
//! A strategic merge and a server-side apply both ask here. They do not agree everywhere, because Kubernetes wrote
//! their rules down years apart. The position of a field decides: the names of the fields above it, from the root of
//! the object, without list indices (`["spec", "template", "spec", "containers"]` for a field of a container of a
//! Deployment). Taken from the markers of the API types of Kubernetes 1.34.
//!
//! Most rules belong to types that many kinds share, such as the pod template. They are in this file. The rules of one
//! kind are in its [`MergeRules`], beside the rest of that kind in `builtin/kinds/`.

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// The new list replaces the old one.
    Atomic,
    /// By value: a value occurs at most once.
    Set,
    /// By the values of these keys.
    Keyed(&'static [&'static str]),
}

/// What one built-in kind adds to the rules that all kinds share. A path is the names of the fields from the root,
/// joined by dots: `spec.ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeRules {
    /// Lists, by path, and how they are merged.
    pub lists: &'static [(&'static str, List)],
    /// Paths of the maps that a server-side apply replaces as a whole.
    pub atomic_maps: &'static [&'static str],
    /// Lists, by path, that a strategic merge treats differently from a server-side apply.
    pub strategic_lists: &'static [(&'static str, List)],
    /// Paths of the maps that a strategic merge replaces as a whole.
    pub strategic_atomic_maps: &'static [&'static str],
    /// Names of the maps whose keys the users choose.
    pub free_maps: &'static [&'static str],
    /// Names of the structures that every object of the kind has, if only empty, so that no field manager adds them.
    pub always_present: &'static [&'static str],
    /// Fields of the metadata that a write of the status leaves as they are.
    pub kept_by_status_writes: &'static [&'static str],
}

impl MergeRules {
    /// The shared rules alone.
    pub const SHARED: Self = Self {
        lists: &[],
        atomic_maps: &[],
        strategic_lists: &[],
        strategic_atomic_maps: &[],
        free_maps: &[],
        always_present: &[],
        kept_by_status_writes: &[],
    };

    /// Returns how a server-side apply merges the list `field`.
    pub fn applied_list(&self, parents: &[&str], field: &str) -> List {
        list_at(self.lists, parents, field).unwrap_or_else(|| shared_applied_list(parents, field))
    }

    /// Returns whether a server-side apply replaces the map `field` as a whole.
    pub fn applied_map_is_atomic(&self, parents: &[&str], field: &str) -> bool {
        contains(self.atomic_maps, parents, field) || shared_applied_map_is_atomic(parents, field)
    }

    /// Returns how a strategic merge merges the list `field`. It uses at most one key, the first.
    pub fn strategic_list(&self, parents: &[&str], field: &str) -> List {
        match list_at(self.strategic_lists, parents, field) {
            Some(list) => list,
            None if field == "claims" => List::Atomic,
            None => self.applied_list(parents, field),
        }
    }

    /// Returns whether a strategic merge replaces the map `field` as a whole.
    pub fn strategic_map_is_atomic(&self, parents: &[&str], field: &str) -> bool {
        contains(self.strategic_atomic_maps, parents, field)
    }
}

fn is_at(path: &str, parents: &[&str], field: &str) -> bool {
    path.split('.').eq(parents.iter().copied().chain([field]))
}

fn list_at(lists: &[(&str, List)], parents: &[&str], field: &str) -> Option<List> {
    lists.iter().find(|(path, _)| is_at(path, parents, field)).map(|(_, list)| *list)
}

fn contains(paths: &[&str], parents: &[&str], field: &str) -> bool {
    paths.iter().any(|path| is_at(path, parents, field))
}

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Whether the parent is the specification of a pod or of a pod template. No other `spec` has fields of these names.
fn in_pod_spec(parents: &[&str]) -> bool {
    parents.last() == Some(&"spec")
}

fn shared_applied_list(parents: &[&str], field: &str) -> List {
    let parent = parents.last().copied().unwrap_or_default();
    let container = CONTAINERS.contains(&parent);
    match field {
        "ownerReferences" if parent == "metadata" => List::Keyed(&["uid"]),
        "finalizers" if parent == "metadata" => List::Set,
        "env" if container => List::Keyed(&["name"]),
        "ports" if container => List::Keyed(&["containerPort", "protocol"]),
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
        "conditions" if parents == ["status"] => List::Keyed(&["type"]),
        _ => List::Atomic,
    }
}

fn shared_applied_map_is_atomic(parents: &[&str], field: &str) -> bool {
    let parent = parents.last().copied().unwrap_or_default();
    match field {
        // A label selector at any position, and the plain maps that the oldest kinds have instead.
        "selector" | "labelSelector" | "namespaceSelector" | "podSelector" => !parents.is_empty(),
        "nodeSelector" => in_pod_spec(parents),
        "requiredDuringSchedulingIgnoredDuringExecution" => parent == "nodeAffinity",
        // An item of the list of this name.
        "ownerReferences" => parent == "metadata",
        // References at any position, and items of lists of references.
        "configMapKeyRef"
        | "secretKeyRef"
        | "fieldRef"
        | "resourceFieldRef"
        | "fileKeyRef"
        | "secretRef"
        | "nodePublishSecretRef"
        | "dataSource"
        | "imagePullSecrets"
        | "secrets" => true,
        _ => false,
    }
}

/// Returns the default of a key field of a list item that does not give it.
pub fn key_default(field: &str) -> Option<&'static str> {
    (field == "protocol").then_some("TCP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_rules_apply_at_their_exact_path_only() {
        const RULES: MergeRules = MergeRules {
            lists: &[("spec.ports", List::Keyed(&["port"])), ("status.conditions", List::Atomic)],
            strategic_lists: &[("status.conditions", List::Set)],
            ..MergeRules::SHARED
        };
        assert_eq!(RULES.applied_list(&["spec"], "ports"), List::Keyed(&["port"]));
        assert_eq!(RULES.strategic_list(&["spec"], "ports"), List::Keyed(&["port"]));
        assert_eq!(RULES.applied_list(&["spec", "spec"], "ports"), List::Atomic);
        assert_eq!(RULES.applied_list(&[], "spec.ports"), List::Atomic);
        assert_eq!(RULES.applied_list(&["status"], "conditions"), List::Atomic);
        assert_eq!(RULES.strategic_list(&["status"], "conditions"), List::Set);
        assert_eq!(MergeRules::SHARED.applied_list(&["status"], "conditions"), List::Keyed(&["type"]));
    }
}
