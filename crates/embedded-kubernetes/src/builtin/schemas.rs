//! The schemas of the built-in kinds, from the generated API types: what `kubectl explain` shows.

use k8s_openapi::api::{
    apps::v1 as apps, authorization::v1 as authorization, batch::v1 as batch, coordination::v1 as coordination,
    core::v1 as core, events::v1 as events, policy::v1 as policy, rbac::v1 as rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};

use crate::kinds::Kind;

/// The schemas of these kinds and of all that they are made of, by name; each kind's with its name.
pub fn schemas<'a>(kinds: impl Iterator<Item = &'a Kind>) -> (Map<String, Value>, Vec<(&'a Kind, String)>) {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let named = kinds.filter_map(|kind| Some((kind, name(kind, &mut generator)?))).collect();
    let schemas = generator.take_definitions(true).into_iter().collect();
    (schemas, named)
}

fn name(kind: &Kind, generator: &mut SchemaGenerator) -> Option<String> {
    let reference = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "ConfigMap") => generator.subschema_for::<core::ConfigMap>(),
        ("", "Event") => generator.subschema_for::<core::Event>(),
        ("", "Namespace") => generator.subschema_for::<core::Namespace>(),
        ("", "Node") => generator.subschema_for::<core::Node>(),
        ("", "Pod") => generator.subschema_for::<core::Pod>(),
        ("", "ResourceQuota") => generator.subschema_for::<core::ResourceQuota>(),
        ("", "Secret") => generator.subschema_for::<core::Secret>(),
        ("", "Service") => generator.subschema_for::<core::Service>(),
        ("", "ServiceAccount") => generator.subschema_for::<core::ServiceAccount>(),
        ("apps", "ControllerRevision") => generator.subschema_for::<apps::ControllerRevision>(),
        ("apps", "Deployment") => generator.subschema_for::<apps::Deployment>(),
        ("apps", "ReplicaSet") => generator.subschema_for::<apps::ReplicaSet>(),
        ("apps", "StatefulSet") => generator.subschema_for::<apps::StatefulSet>(),
        ("batch", "Job") => generator.subschema_for::<batch::Job>(),
        ("coordination.k8s.io", "Lease") => generator.subschema_for::<coordination::Lease>(),
        ("events.k8s.io", "Event") => generator.subschema_for::<events::Event>(),
        ("policy", "PodDisruptionBudget") => generator.subschema_for::<policy::PodDisruptionBudget>(),
        ("rbac.authorization.k8s.io", "ClusterRole") => generator.subschema_for::<rbac::ClusterRole>(),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => generator.subschema_for::<rbac::ClusterRoleBinding>(),
        ("rbac.authorization.k8s.io", "Role") => generator.subschema_for::<rbac::Role>(),
        ("rbac.authorization.k8s.io", "RoleBinding") => generator.subschema_for::<rbac::RoleBinding>(),
        ("authorization.k8s.io", _) => generator.subschema_for::<authorization::SelfSubjectAccessReview>(),
        ("apiextensions.k8s.io", _) => generator.subschema_for::<extensions::CustomResourceDefinition>(),
        _ => return None,
    };
    let reference = reference.as_object()?.get("$ref")?.as_str()?;
    reference.rsplit('/').next().map(str::to_owned)
}
