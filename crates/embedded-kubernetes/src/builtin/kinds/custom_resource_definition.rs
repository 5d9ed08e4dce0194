//! `CustomResourceDefinition`. What a definition leads to, and the rules for one, are in `api/definitions.rs`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

use crate::builtin::defaults::default;
use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, Storage};
use crate::lists::{List, MergeRules};
use crate::meta::entry;
use crate::names;
use crate::table::BuiltinTable;

pub(super) static KIND: BuiltinKind = BuiltinKind {
    // The schemas in a definition are free-form enough to be left as they are.
    api: ApiType::free_form::<CustomResourceDefinition>(),
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    storage: Storage::Own,
    status: true,
    scale: false,
    subresources: &[],
    unconditional_update: false,
    create_on_update: false,
    delete_collection: true,
    delete_returns_object: false,
    garbage_collected: true,
    generation: Generation::Content,
    pod_spec: None,
    field_selectors: &[],
    table: BuiltinTable::CREATED_AT,
    // The Go type of the conditions has no marker for a strategic merge.
    merge: MergeRules { strategic_lists: &[("status.conditions", List::Atomic)], ..MergeRules::SHARED },
    check_name: names::subdomain,
    defaults: Some(defaults),
    first_status: None,
    check: None,
    check_update: None,
    hooks: Hooks::NONE,
};

fn defaults(map: &mut Map<String, Value>) {
    let spec = entry(map, "spec");
    default(entry(spec, "conversion"), "strategy", "None");
    let names = entry(spec, "names");
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    default(names, "singular", kind.to_lowercase());
    default(names, "listKind", format!("{kind}List"));
}
