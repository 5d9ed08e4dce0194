//! `SelfSubjectAccessReview`, a question that `api/access.rs` answers.

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::MergeRules;
use crate::names;
use crate::table::BuiltinTable;

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<SelfSubjectAccessReview>(),
    short_names: &[],
    categories: &[],
    storage: Storage::Nowhere,
    status: false,
    scale: false,
    subresources: &[],
    unconditional_update: false,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::NotCounted,
    pod_spec: None,
    field_selectors: &[],
    table: BuiltinTable::CREATED_AT,
    merge: MergeRules::SHARED,
    check_name: names::subdomain,
    defaults: None,
    first_status: None,
    check: None,
    check_update: None,
    hooks: Hooks::NONE,
};
