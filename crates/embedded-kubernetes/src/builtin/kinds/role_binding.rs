//! `ClusterRoleBinding` and `RoleBinding`, which differ in their scope alone.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use serde_json::{Map, Value};

use crate::builtin::defaults::{default, each};
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::MergeRules;
use crate::names;
use crate::status::FieldError;
use crate::table::cells::{age, items, name, text};
use crate::table::{BuiltinTable, PrintColumn};

pub(super) static CLUSTER_ROLE_BINDING: BuiltinKind = kind(ApiType::of::<ClusterRoleBinding>());
pub(super) static ROLE_BINDING: BuiltinKind = kind(ApiType::of::<RoleBinding>());

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
        table: BuiltinTable { columns: COLUMNS, cells, conditions: None },
        merge: MergeRules { atomic_maps: &["roleRef"], ..MergeRules::SHARED },
        check_name: names::path_segment,
        defaults: Some(defaults),
        first_status: None,
        check: None,
        check_update: Some(check_update),
        hooks: Hooks::NONE,
    }
}

fn defaults(map: &mut Map<String, Value>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    if let Some(role) = map.get_mut("roleRef").and_then(Value::as_object_mut) {
        default(role, "apiGroup", GROUP);
    }
    for subject in each(map, "subjects") {
        if subject.get("kind").is_some_and(|kind| kind == "User" || kind == "Group") {
            default(subject, "apiGroup", GROUP);
        }
    }
}

fn check_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if old.get("roleRef") != new.get("roleRef") {
        let value = new.get("roleRef").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("roleRef", value, "cannot change roleRef"));
    }
}

const COLUMNS: &[PrintColumn] = &[
    PrintColumn::NAME,
    PrintColumn::text("Role"),
    PrintColumn::AGE,
    PrintColumn::text("Users").wide(),
    PrintColumn::text("Groups").wide(),
    PrintColumn::text("ServiceAccounts").wide(),
];

fn cells(object: &Value, now: &str) -> Vec<Value> {
    let subjects = |kind: &str| -> Value {
        let subjects = items(object, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
        let names: Vec<String> = subjects
            .map(|subject| match (kind, text(subject, "/name")) {
                ("ServiceAccount", name) => format!("{}/{name}", text(subject, "/namespace")),
                (_, name) => name.to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
    vec![name(object), role.into(), age(object, now), subjects("User"), subjects("Group"), subjects("ServiceAccount")]
}
