//! One file for each built-in kind, or for a few that are almost the same, and the list of all of them.

mod cluster_role;
mod config_map;
mod controller_revision;
mod custom_resource_definition;
mod deployment;
mod event;
mod job;
mod lease;
mod namespace;
mod node;
mod pod;
mod pod_disruption_budget;
mod replica_set;
mod resource_quota;
mod role_binding;
mod secret;
mod self_subject_access_review;
mod service;
mod service_account;
mod stateful_set;

use super::BuiltinKind;

/// All built-in kinds.
pub static ALL: &[&BuiltinKind] = &[
    &cluster_role::CLUSTER_ROLE,
    &cluster_role::ROLE,
    &config_map::KIND,
    &controller_revision::KIND,
    &custom_resource_definition::KIND,
    &deployment::KIND,
    &event::CORE,
    &event::EVENTS,
    &job::KIND,
    &lease::KIND,
    &namespace::KIND,
    &node::KIND,
    &pod::KIND,
    &pod_disruption_budget::KIND,
    &replica_set::KIND,
    &resource_quota::KIND,
    &role_binding::CLUSTER_ROLE_BINDING,
    &role_binding::ROLE_BINDING,
    &secret::KIND,
    &self_subject_access_review::KIND,
    &service::KIND,
    &service_account::KIND,
    &stateful_set::KIND,
];

#[cfg(test)]
mod tests;
