//! `ClusterRole` and `Role`, which differ in their scope alone.

use k8s_openapi::api::rbac::v1::{ClusterRole, Role};

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::MergeRules;
use crate::names;
use crate::table::BuiltinTable;

pub(super) static CLUSTER_ROLE: BuiltinKind = kind(ApiType::of::<ClusterRole>());
pub(super) static ROLE: BuiltinKind = kind(ApiType::of::<Role>());

const fn kind(api: ApiType) -> BuiltinKind {
    BuiltinKind {
        api,
        short_names: &[],
        categories: &[],
        storage: Storage::Own,
        status: false,
        scale: false,
        subresources: &[],
        unconditional_update: true,
        create_on_update: true,
        delete_collection: true,
        delete_returns_object: false,
        garbage_collected: true,
        generation: Generation::NotCounted,
        pod_spec: None,
        field_selectors: &[],
        table: BuiltinTable::CREATED_AT,
        merge: MergeRules { always_present: &["rules"], ..MergeRules::SHARED },
        check_name: names::path_segment,
        defaults: None,
        first_status: None,
        check: None,
        check_update: None,
        hooks: Hooks::NONE,
    }
}
