//! Sets of fields, as stored in `metadata.managedFields`.
//!
//! A set is a tree of steps. Steps have their stored form, so that they can be compared and sent as they are:
//! `f:replicas` is a field, `k:{"name":"a"}` an item of a keyed list, `v:"a"` a value of a set, and `i:0` an index.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Returns the step to a field.
pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}

/// Returns the step to a value of a set.
pub(super) fn value(value: &Value) -> String {
    format!("v:{value}")
}

/// Returns the step to the item with these keys.
pub(super) fn keys(keys: Map<String, Value>) -> String {
    format!("k:{}", Value::Object(keys))
}

/// Formats a step for people: `.replicas`, `[name="a"]`, `[="a"]`, `[0]`.
fn display_step(step: &str) -> String {
    let (kind, rest) = step.split_at_checked(2).unwrap_or((step, ""));
    match kind {
        "f:" => format!(".{rest}"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        "v:" => format!("[={rest}]"),
        _ => format!("[{rest}]"),
    }
}

/// Returns the step in the form in which it is written here, whichever client wrote it. `None`: it is not a step.
fn canonical(step: &str) -> Option<String> {
    let (kind, rest) = step.split_at_checked(2)?;
    match kind {
        "f:" => Some(step.to_owned()),
        "k:" | "v:" => serde_json::from_str::<Value>(rest).ok().map(|value| format!("{kind}{value}")),
        "i:" => rest.parse::<i64>().ok().map(|_| step.to_owned()),
        _ => None,
    }
}

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// The steps that are members of the set.
    members: BTreeSet<String>,
    /// The subtree below each step. No subtree is empty.
    children: BTreeMap<String, Self>,
}

impl Set {
    /// Parses `fieldsV1`. `None`: the value is not a valid set.
    pub(super) fn read(json: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (step, below) in json.as_object()? {
            if step == "." {
                continue;
            }
            let step = canonical(step)?;
            let map = below.as_object()?;
            if map.is_empty() || map.contains_key(".") {
                set.members.insert(step.clone());
            }
            set.insert_child(step, Self::read(below)?);
        }
        Some(set)
    }

    /// Returns the set in the form of `fieldsV1`.
    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (step, below) in &self.children {
            let mut below = below.to_json();
            if let (true, Value::Object(below)) = (self.members.contains(step), &mut below) {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(step.clone(), below);
        }
        for step in &self.members {
            map.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
        }
        Value::Object(map)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Creates the set of one field.
    pub(super) fn from_path(path: &[String]) -> Self {
        let mut set = Self::default();
        set.insert(path);
        set
    }

    pub(super) fn insert(&mut self, path: &[String]) {
        match path {
            [] => {}
            [last] => drop(self.members.insert(last.clone())),
            [step, rest @ ..] => self.children.entry(step.clone()).or_default().insert(rest),
        }
    }

    pub(super) fn has(&self, path: &[String]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [step, rest @ ..] => self.below(step).is_some_and(|below| below.has(rest)),
        }
    }

    /// Returns whether this step is a member.
    pub(super) fn has_member(&self, step: &str) -> bool {
        self.members.contains(step)
    }

    /// Returns the subtree below this step.
    pub(super) fn below(&self, step: &str) -> Option<&Self> {
        self.children.get(step)
    }

    fn insert_child(&mut self, step: String, below: Self) {
        if !below.is_empty() {
            self.children.insert(step, below);
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.members.extend(other.members.iter().cloned());
        for (step, below) in &other.children {
            let both = set.children.get(step).map_or_else(|| below.clone(), |own| own.union(below));
            set.children.insert(step.clone(), both);
        }
        set
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut set = Self { members: &self.members & &other.members, children: BTreeMap::new() };
        for (step, below) in &self.children {
            if let Some(other) = other.children.get(step) {
                set.insert_child(step.clone(), below.intersection(other));
            }
        }
        set
    }

    /// Returns the set without the fields of `other`. Fields below those stay.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let mut set = Self { members: &self.members - &other.members, children: BTreeMap::new() };
        for (step, below) in &self.children {
            set.insert_child(
                step.clone(),
                other.children.get(step).map_or_else(|| below.clone(), |other| below.difference(other)),
            );
        }
        set
    }

    /// Returns the set without the fields of `other` and all fields below them.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut set = Self { members: &self.members - &other.members, children: BTreeMap::new() };
        for (step, below) in self.children.iter().filter(|(step, _)| !other.members.contains(*step)) {
            set.insert_child(
                step.clone(),
                other.children.get(step).map_or_else(|| below.clone(), |other| below.without(other)),
            );
        }
        set
    }

    /// Adds each step on the way to a member for which `named` returns true.
    pub(super) fn with_named(&self, named: &impl Fn(&[String], &str) -> bool) -> Self {
        self.with_named_below(&mut Vec::new(), named)
    }

    fn with_named_below(&self, path: &mut Vec<String>, named: &impl Fn(&[String], &str) -> bool) -> Self {
        let mut set = Self { members: self.members.clone(), children: BTreeMap::new() };
        for (step, below) in &self.children {
            if named(path, step) {
                set.members.insert(step.clone());
            }
            path.push(step.clone());
            set.insert_child(step.clone(), below.with_named_below(path, named));
            path.pop();
        }
        set
    }

    /// Formats each field for people: `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        paths.extend(self.members.iter().map(|step| format!("{prefix}{}", display_step(step))));
        for (step, below) in &self.children {
            below.collect_paths(&format!("{prefix}{}", display_step(step)), paths);
        }
    }
}

/// Formats a path for people.
pub(super) fn display_path(path: &[String]) -> String {
    path.iter().map(|step| display_step(step)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn stored_form_round_trips() {
        let stored = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {
            "f:replicas": {}, "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            "f:finalizers": {"v:\"x\"": {}}, "f:args": {"i:0": {}}}});
        let set = Set::read(&stored).unwrap();
        assert_eq!(set.to_json(), stored);
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.a",
                ".spec.replicas",
                ".spec.args[0]",
                ".spec.finalizers[=\"x\"]",
                ".spec.ports[containerPort=80,protocol=\"TCP\"]",
                ".spec.ports[containerPort=80,protocol=\"TCP\"].containerPort",
            ]
        );
        let other_way = Set::read(&json!({"f:p": {"k:{ \"b\": 1, \"a\":2 }": {}}})).unwrap();
        assert_eq!(other_way.to_json(), json!({"f:p": {"k:{\"a\":2,\"b\":1}": {}}}));
        for none in [json!([]), json!({"x": {}}), json!({"k:{": {}}), json!({"f:a": 1}), json!({"i:x": {}})] {
            assert_eq!(Set::read(&none), None, "{none}");
        }
    }

    fn any_set() -> impl Strategy<Value = Set> {
        let step = prop::sample::select(vec!["f:a", "f:b", "k:{\"name\":\"x\"}", "v:1", "i:0"]).prop_map(str::to_owned);
        prop::collection::vec(prop::collection::vec(step, 1..4), 0..8).prop_map(|paths| {
            let mut set = Set::default();
            for path in &paths {
                set.insert(path);
            }
            set
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn set_operations_obey_set_algebra(a in any_set(), b in any_set()) {
            prop_assert_eq!(Set::read(&a.to_json()).unwrap(), a.clone());
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert!(a.without(&b).difference(&a.difference(&b)).is_empty());
            prop_assert!(a.union(&b).difference(&a).difference(&b).is_empty());
            prop_assert_eq!(a.difference(&Set::default()), a);
        }
    }
}
