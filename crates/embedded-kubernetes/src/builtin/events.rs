//! Events have two faces, one in the core group and one in `events.k8s.io`, with other names for the same fields. They
//! are kept as core events.

use serde_json::{Map, Value};

use crate::meta;

/// Name in `events.k8s.io`, name in the core group.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn rename(event: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>, version: &str) {
    let map = meta::as_map(event);
    let renamed: Map<String, Value> = names.filter_map(|(from, to)| Some((to.to_owned(), map.remove(from)?))).collect();
    map.extend(renamed);
    map.insert("apiVersion".to_owned(), Value::from(version));
}

/// Turns an event of `events.k8s.io` into a core one.
pub fn to_core(event: &mut Value) {
    rename(event, NAMES.iter().copied(), "v1");
}

/// Turns a core event into one of `events.k8s.io`.
pub fn from_core(event: &mut Value) {
    rename(event, NAMES.iter().map(|&(new, old)| (old, new)), "events.k8s.io/v1");
}
