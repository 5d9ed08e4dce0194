//! The table of the built-in kinds.

use super::{Kind, Resource, ScalePaths};

struct Row {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    flags: &'static str,
}

const fn row(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    flags: &'static str,
) -> Row {
    Row { group, kind, plural, short, flags }
}

const APPS: &str = "apps";
const RBAC: &str = "rbac.authorization.k8s.io";

/// All are of version v1. The flags: `n` in namespaces, `a` in the category all, `s` subresource status, `r` subresource
/// scale, `u` takes updates without a resource version, `c` an update may create, `g` counts generations, `1` only
/// one object is deleted at a time, `q` only asked about, never stored.
const TABLE: &[Row] = &[
    row("", "ConfigMap", "configmaps", &["cm"], "nu"),
    row("", "Event", "events", &["ev"], "nuc"),
    row("", "Namespace", "namespaces", &["ns"], "su1"),
    row("", "Node", "nodes", &["no"], "su"),
    row("", "Pod", "pods", &["po"], "nasug"),
    row("", "ResourceQuota", "resourcequotas", &["quota"], "nsu"),
    row("", "Secret", "secrets", &[], "nu"),
    row("", "Service", "services", &["svc"], "nasu"),
    row("", "ServiceAccount", "serviceaccounts", &["sa"], "nu"),
    row(APPS, "ControllerRevision", "controllerrevisions", &[], "nu"),
    row(APPS, "Deployment", "deployments", &["deploy"], "nasrug"),
    row(APPS, "ReplicaSet", "replicasets", &["rs"], "nasrug"),
    row(APPS, "StatefulSet", "statefulsets", &["sts"], "nasrug"),
    row("batch", "Job", "jobs", &[], "nasug"),
    row("coordination.k8s.io", "Lease", "leases", &[], "nc"),
    row("events.k8s.io", "Event", "events", &["ev"], "nuc"),
    row("policy", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"], "nsg"),
    row(RBAC, "ClusterRole", "clusterroles", &[], "uc"),
    row(RBAC, "ClusterRoleBinding", "clusterrolebindings", &[], "uc"),
    row(RBAC, "Role", "roles", &[], "nuc"),
    row(RBAC, "RoleBinding", "rolebindings", &[], "nuc"),
    row("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", &[], "q"),
    row("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"], "sg"),
];

pub(super) fn kinds() -> Vec<Kind> {
    TABLE.iter().map(build).collect()
}

fn build(row: &Row) -> Kind {
    let has = |flag: char| row.flags.contains(flag);
    let selector = if row.kind == "StatefulSet" || row.kind == "Deployment" || row.kind == "ReplicaSet" {
        Some(".spec.selector".to_owned())
    } else {
        None
    };
    let mut categories = Vec::new();
    if has('a') {
        categories.push("all".to_owned());
    }
    if row.kind == "CustomResourceDefinition" {
        categories.push("api-extensions".to_owned());
    }
    Kind {
        group: row.group.to_owned(),
        version: "v1".to_owned(),
        kind: row.kind.to_owned(),
        list_kind: format!("{}List", row.kind),
        plural: row.plural.to_owned(),
        singular: row.kind.to_ascii_lowercase(),
        short_names: row.short.iter().map(|&name| name.to_owned()).collect(),
        categories,
        namespaced: has('n'),
        stored: !has('q'),
        delete_collection: !has('1'),
        status: has('s'),
        scale: has('r').then(|| ScalePaths {
            spec: ".spec.replicas".to_owned(),
            status: ".status.replicas".to_owned(),
            selector,
        }),
        unconditional_update: has('u'),
        create_on_update: has('c'),
        generation: has('g'),
        // The two groups of events are two faces of the same objects.
        storage: (row.group == "events.k8s.io").then(|| Resource::new("", "events")),
        custom: None,
    }
}
