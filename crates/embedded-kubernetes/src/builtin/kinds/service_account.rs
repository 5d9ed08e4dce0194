//! `ServiceAccount`.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::{List, MergeRules};
use crate::names;
use crate::table::cells::{age, items, name};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static KIND: BuiltinKind = BuiltinKind {
    api: ApiType::of::<ServiceAccount>(),
    short_names: &["sa"],
    categories: &[],
    storage: Storage::Own,
    status: false,
    scale: false,
    subresources: &[],
    unconditional_update: true,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: true,
    garbage_collected: true,
    generation: Generation::NotCounted,
    pod_spec: None,
    field_selectors: &[],
    table: BuiltinTable {
        columns: &[PrintColumn::NAME, PrintColumn::text("Secrets"), PrintColumn::AGE],
        cells: |object, now| vec![name(object), items(object, "/secrets").len().into(), age(object, now)],
        conditions: None,
    },
    merge: MergeRules { lists: &[("secrets", List::Keyed(&["name"]))], ..MergeRules::SHARED },
    check_name: names::subdomain,
    defaults: None,
    first_status: None,
    check: None,
    check_update: None,
    hooks: Hooks::NONE,
};
