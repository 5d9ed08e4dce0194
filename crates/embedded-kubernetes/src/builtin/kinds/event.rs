//! `Event`, in its two forms: one in the core group, and one in `events.k8s.io` with other names for the same fields.
//! Events are stored as core events.

use k8s_openapi::api::core::v1::Event as CoreEvent;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Map, Value};

use crate::builtin::{ApiType, BuiltinKind, Generation, Hooks, SharedStorage, Storage};
use crate::lists::MergeRules;
use crate::meta;
use crate::names;
use crate::table::cells::{name, number, text};
use crate::table::{BuiltinTable, PrintColumn, since};

pub(super) static CORE: BuiltinKind = kind(ApiType::of::<CoreEvent>(), Storage::Own, &["involvedObject", "related"]);

pub(super) static EVENTS: BuiltinKind = kind(
    ApiType::of::<Event>(),
    Storage::SharedWith(SharedStorage { group: "", plural: "events", to_stored: to_core, from_stored: from_core }),
    &["regarding", "related"],
);

const fn kind(api: ApiType, storage: Storage, references: &'static [&'static str]) -> BuiltinKind {
    BuiltinKind {
        api,
        short_names: &["ev"],
        categories: &[],
        storage,
        status: false,
        scale: false,
        subresources: &[],
        unconditional_update: true,
        create_on_update: true,
        delete_collection: true,
        delete_returns_object: false,
        garbage_collected: false,
        generation: Generation::NotCounted,
        pod_spec: None,
        // Both forms go by the names of the core form.
        field_selectors: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        table: BuiltinTable { columns: COLUMNS, cells, conditions: None },
        merge: MergeRules { atomic_maps: references, always_present: &["source"], ..MergeRules::SHARED },
        check_name: names::subdomain,
        defaults: None,
        first_status: None,
        check: None,
        check_update: None,
        hooks: Hooks::NONE,
    }
}

/// Names of fields: in `events.k8s.io`, in the core group.
const FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn rename(event: &mut Value, fields: impl Iterator<Item = (&'static str, &'static str)>, version: &str) {
    let map = meta::as_map(event);
    let renamed: Map<String, Value> =
        fields.filter_map(|(from, to)| Some((to.to_owned(), map.remove(from)?))).collect();
    map.extend(renamed);
    map.insert("apiVersion".to_owned(), Value::from(version));
}

fn to_core(event: &mut Value) {
    rename(event, FIELDS.iter().copied(), "v1");
}

fn from_core(event: &mut Value) {
    rename(event, FIELDS.iter().map(|&(new, old)| (old, new)), "events.k8s.io/v1");
}

const COLUMNS: &[PrintColumn] = &[
    PrintColumn::text("Last Seen"),
    PrintColumn::text("Type"),
    PrintColumn::text("Reason"),
    PrintColumn::text("Object"),
    PrintColumn::text("Subobject").wide(),
    PrintColumn::text("Source").wide(),
    PrintColumn::text("Message"),
    PrintColumn::text("First Seen").wide(),
    PrintColumn::text("Count").wide(),
    PrintColumn::NAME.wide(),
];

/// The cells of an event in either form.
fn cells(object: &Value, now: &str) -> Vec<Value> {
    let either = |one: &str, other: &str| match text(object, one) {
        "" => text(object, other).to_owned(),
        text => text.to_owned(),
    };
    let ago = |time: &str| since(time, now);
    let first = match either("/firstTimestamp", "/deprecatedFirstTimestamp").as_str() {
        "" => ago(text(object, "/eventTime")),
        time => ago(time),
    };
    let mut last = match either("/lastTimestamp", "/deprecatedLastTimestamp").as_str() {
        "" => first.clone(),
        time => ago(time),
    };
    let mut count = number(object, "/count").max(number(object, "/deprecatedCount"));
    if object.get("series").is_some_and(Value::is_object) {
        last = ago(text(object, "/series/lastObservedTime"));
        count = number(object, "/series/count");
    } else if count == 0 {
        count = 1;
    }
    let regarding = if object.get("regarding").is_some() { "/regarding" } else { "/involvedObject" };
    let about = |field: &str| text(object, &format!("{regarding}/{field}"));
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() { kind } else { format!("{kind}/{}", about("name")) };
    let component = match either("/source/component", "/deprecatedSource/component").as_str() {
        "" => either("/reportingComponent", "/reportingController"),
        component => component.to_owned(),
    };
    let host = match either("/source/host", "/deprecatedSource/host").as_str() {
        "" => text(object, "/reportingInstance").to_owned(),
        host => host.to_owned(),
    };
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        last.into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        about("fieldPath").into(),
        source.into(),
        either("/message", "/note").trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}
