//! Strategic merge patch: a merge patch that knows which lists of the built-in kinds are keyed, and that supports
//! directives.
//!
//! | directive | effect |
//! |---|---|
//! | `$patch: replace` in a map | the map replaces the old one |
//! | `$patch: delete` in a map | empties the map; in an item of a keyed list, removes that item |
//! | `$patch: replace` as an item of a keyed list | the other items replace the list |
//! | `$retainKeys: [...]` in a map | removes the keys that are not listed |
//! | `$deleteFromPrimitiveList/LIST: [...]` | removes these values |
//! | `$setElementOrder/LIST: [...]` | sets the order of the result; items that are not named stay between their old
//! neighbours |

use serde_json::{Map, Value};

use super::go_type;
use crate::lists::{List, MergeRules};
use crate::status::Status;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Fields = Map<String, Value>;

/// Merges `patch` into `object`, which is of a built-in kind with these rules.
///
/// Errors: 400, or 500 as in the real server, for a directive that cannot be interpreted.
pub fn strategic(object: &Value, patch: &Value, rules: &MergeRules) -> Result<Value, Status> {
    match (object, patch) {
        (Value::Object(fields), Value::Object(changes)) => {
            merge_map(fields.clone(), changes, FieldPosition { rules, parents: &[] }).map(Value::Object)
        }
        (_, Value::Null) => Ok(object.clone()),
        (_, other) => Err(Status::bad_request(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go_type(other)
        ))),
    }
}

/// The position of the merge in an object of a kind.
#[derive(Clone, Copy)]
struct FieldPosition<'a> {
    rules: &'a MergeRules,
    parents: &'a [&'a str],
}

impl FieldPosition<'_> {
    fn list(&self, field: &str) -> List {
        self.rules.strategic_list(self.parents, field)
    }

    fn within<T>(&self, field: &str, merge: impl FnOnce(FieldPosition<'_>) -> T) -> T {
        let mut parents: Vec<&str> = self.parents.to_vec();
        parents.push(field);
        merge(FieldPosition { rules: self.rules, parents: &parents })
    }
}

/// Creates an error that has a code and a message but, as in the real server, no reason.
fn failed(message: String) -> Status {
    Status::new(500, "", message)
}

fn bad_format(what: &str) -> Status {
    Status::bad_request(format!("invalid patch format of {what}"))
}

fn no_merge_key(item: &Fields, key: &str) -> Status {
    failed(format!("map: {} does not contain declared merge key: {key}", go_map(item)))
}

fn unknown_directive(directive: &Value, map: &Fields) -> Status {
    failed(format!("unknown patch type: {} in map: {}", go_text(directive), go_map(map)))
}

/// Formats a map as Go does.
fn go_map(map: &Fields) -> String {
    let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
    format!("map[{}]", entries.join(" "))
}

fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => go_map(map),
        other => other.to_string(),
    }
}

fn merge_map(mut original: Fields, patch: &Fields, position: FieldPosition<'_>) -> Result<Fields, Status> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(directive) if directive == "replace" => {
            let rest = patch.iter().filter(|(key, _)| *key != DIRECTIVE);
            return Ok(rest.filter_map(|(key, value)| Some((key.clone(), without_directives(value)?))).collect());
        }
        Some(directive) if directive == "delete" => return Ok(Map::new()),
        Some(directive) => return Err(unknown_directive(directive, patch)),
    }
    retain_keys(&mut original, patch)?;
    for (key, change) in patch {
        if key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM) {
            continue;
        }
        if change.is_null() {
            original.remove(key);
            continue;
        }
        let order = patch.get(&format!("{SET_ORDER}{key}"));
        let merged = match (original.remove(key), change) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                if position.rules.strategic_map_is_atomic(position.parents, key) {
                    Some(change.clone())
                } else {
                    Some(Value::Object(position.within(key, |position| merge_map(old, new, position))?))
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                check_order(new, order, position.list(key))?;
                Some(Value::Array(merge_list(old, new, key, position)?))
            }
            (_, new) => {
                if let Value::Array(new) = new {
                    check_order(new, order, position.list(key))?;
                }
                without_directives(new)
            }
        };
        original.extend(merged.map(|merged| (key.clone(), merged)));
    }
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(SET_ORDER) {
            set_order(&mut original, field, order, position)?;
        }
    }
    for (key, values) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from(&mut original, field, values)?;
        }
    }
    Ok(original)
}

fn retain_keys(original: &mut Fields, patch: &Fields) -> Result<(), Status> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or_else(|| bad_format("retainKeys"))?;
    let listed = |key: &str| keys.iter().any(|listed| listed == key);
    let stray = patch.iter().any(|(key, value)| {
        let directive = key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER);
        !directive && !value.is_null() && !listed(key)
    });
    if stray {
        return Err(bad_format("retainKeys"));
    }
    original.retain(|key, _| listed(key));
    Ok(())
}

fn delete_from(original: &mut Fields, field: &str, values: &Value) -> Result<(), Status> {
    let values = values.as_array().ok_or_else(|| bad_format("primitive list"))?;
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// Returns a value that is added where there was none: without directives and without the nulls of its objects.
/// `None`: the value was only a directive.
fn without_directives(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(
            map.iter()
                .filter(|(key, value)| !value.is_null() && !key.starts_with(SET_ORDER) && *key != RETAIN_KEYS)
                .filter_map(|(key, value)| Some((key.clone(), without_directives(value)?)))
                .collect(),
        )),
        Value::Array(items) => Some(items.iter().filter_map(without_directives).collect()),
        scalar => Some(scalar.clone()),
    }
}

fn merge_list(
    mut old: Vec<Value>,
    new: &[Value],
    field: &str,
    position: FieldPosition<'_>,
) -> Result<Vec<Value>, Status> {
    let key = match position.list(field) {
        List::Atomic => return Ok(new.iter().filter_map(without_directives).collect()),
        List::Set => {
            let before = old.clone();
            for item in new {
                if !old.contains(item) {
                    old.push(item.clone());
                }
            }
            return in_order(old, new, &before, None);
        }
        List::Keyed(keys) => keys.first().copied().unwrap_or_default(),
    };
    if !old.iter().chain(new).all(Value::is_object) {
        let shown = format!("[{} {}]", go_text(&Value::Array(old)), go_text(&Value::Array(new.to_vec())));
        return Err(failed(format!("list element types are not identical: {shown}")));
    }
    let mut replaced = false;
    let mut changes = Vec::new();
    for item in new {
        let item = as_map(item)?;
        match item.get(DIRECTIVE) {
            None => changes.push(item),
            Some(directive) if directive == "delete" => {
                let wanted = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
                old.retain(|item| item.get(key) != Some(wanted));
            }
            Some(directive) if directive == "replace" => replaced = true,
            Some(directive) if directive == "merge" => {
                return Err(failed("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some(directive) => return Err(unknown_directive(directive, item)),
        }
    }
    if replaced {
        let changes = changes.into_iter().cloned().map(Value::Object);
        return Ok(changes.filter_map(|change| without_directives(&change)).collect());
    }
    let before = old.clone();
    for change in &changes {
        let wanted = change.get(key).ok_or_else(|| no_merge_key(change, key))?;
        match old.iter_mut().find(|item| item.get(key) == Some(wanted)) {
            Some(Value::Object(item)) => {
                let merged = position.within(field, |position| merge_map(std::mem::take(item), change, position))?;
                *item = merged;
            }
            _ => old.extend(without_directives(&Value::Object((*change).clone()))),
        }
    }
    let order: Vec<Value> = changes.into_iter().cloned().map(Value::Object).collect();
    in_order(old, &order, &before, Some(key))
}

fn as_map(item: &Value) -> Result<&Fields, Status> {
    item.as_object().ok_or_else(|| failed("lists of lists are not supported".to_owned()))
}

/// Checks that the items of the patch are in the order that the directive sets.
fn check_order(items: &[Value], order: Option<&Value>, list: List) -> Result<(), Status> {
    let Some(order) = order else { return Ok(()) };
    let order = order
        .as_array()
        .ok_or_else(|| failed(format!("expected a []interface {{}}, but received a {}", go_value_type(order))))?;
    if order.is_empty() {
        return Ok(());
    }
    let key = merge_key(list);
    let mut rest = order.iter();
    for item in items.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        if !rest.any(|listed| is_same_item(listed, item, key)) {
            let listed = |items: &[Value]| go_text(&Value::Array(items.to_vec()));
            return Err(failed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                listed(items),
                listed(order)
            )));
        }
    }
    Ok(())
}

fn go_value_type(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::Object(_) => "map[string]interface {}",
        Value::Null => "%!s(<nil>)",
        other => go_type(other),
    }
}

fn merge_key(list: List) -> Option<&'static str> {
    match list {
        List::Keyed(keys) => keys.first().copied(),
        List::Atomic | List::Set => None,
    }
}

fn is_same_item(left: &Value, right: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => left.get(key).is_some() && left.get(key) == right.get(key),
        None => left == right,
    }
}

fn set_order(original: &mut Fields, field: &str, order: &Value, position: FieldPosition<'_>) -> Result<(), Status> {
    let Some(order) = order.as_array() else {
        return Err(failed(format!("expected a []interface {{}}, but received a {}", go_value_type(order))));
    };
    let list = position.list(field);
    if list == List::Atomic {
        return Ok(());
    }
    if let Some(Value::Array(items)) = original.get_mut(field) {
        let before = items.clone();
        *items = in_order(std::mem::take(items), order, &before, merge_key(list))?;
    }
    Ok(())
}

/// Sorts `items`: those that `order` names are in its order, and the others stay where they were `before`, as far as
/// possible.
fn in_order(items: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Result<Vec<Value>, Status> {
    if let Some(key) = key
        && let Some(item) = items.iter().find(|item| item.get(key).is_none())
    {
        return Err(no_merge_key(as_map(item)?, key));
    }
    let index_of = |among: &[Value], item: &Value| among.iter().position(|other| is_same_item(other, item, key));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| index_of(order, item).is_some());
    named.sort_by_key(|item| index_of(order, item));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        let index = index_of(before, &item);
        while let Some(other) = others.next_if(|other| index.is_some() && index_of(before, other) < index) {
            result.push(other);
        }
        result.push(item);
    }
    result.extend(others);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::builtin::merge_rules as rules;

    fn pod(spec: &Value) -> Value {
        json!({"kind": "Pod", "metadata": {"finalizers": ["a/x", "a/y", "a/z"]}, "spec": spec})
    }

    fn patched(spec: &Value, patch: &Value) -> Value {
        let patch = json!({"spec": patch});
        strategic(&pod(spec), &patch, rules("Pod")).unwrap_or_else(|error| panic!("{patch}: {error}"))["spec"].clone()
    }

    /// The results are recorded from a real 1.34 server, without the defaults that it filled in.
    #[test]
    fn lists_are_merged_by_their_keys() {
        let two =
            json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]});
        let containers = |patch: Value| patched(&two, &json!({"containers": patch}))["containers"].clone();
        let a = || two["containers"][0].clone();
        assert_eq!(
            containers(json!([{"name": "b", "image": "2"}, {"name": "a", "env": [{"name": "F", "value": "2"}]}])),
            json!([{"name": "b", "image": "2"}, {"name": "a", "image": "1",
                "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]}]),
        );
        assert_eq!(containers(json!([{"name": "c"}])), json!([{"name": "c"}, a(), {"name": "b"}]));
        assert_eq!(containers(json!([{"name": "b", "$patch": "delete"}])), json!([a()]));
        assert_eq!(containers(json!([{"$patch": "replace"}, {"name": "z"}])), json!([{"name": "z"}]));
        let item = json!([{"name": "a", "$patch": "replace", "image": "9"}]);
        assert_eq!(containers(item), json!([]), "the directive applies to the list, and its item is dropped");
    }

    #[test]
    fn ports_are_keyed_by_number_alone() {
        let dns = json!({"containers": [{"name": "a", "ports": [{"containerPort": 53, "protocol": "TCP"}]}]});
        let patch = json!({"containers": [{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]});
        assert_eq!(patched(&dns, &patch)["containers"][0]["ports"], json!([{"containerPort": 53, "protocol": "UDP"}]));
    }

    #[test]
    fn other_lists_are_replaced() {
        let old = json!({"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["1", "2"]}]});
        let patch = json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["3"]}]});
        assert_eq!(patched(&old, &patch), patch);
    }

    #[test]
    fn directives_apply_to_maps() {
        let volume = json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]});
        let other = json!({"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}});
        assert_eq!(
            patched(&volume, &json!({"volumes": [other]}))["volumes"],
            json!([{"name": "v", "configMap": {"name": "c"}}])
        );
        let security = json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}});
        assert_eq!(
            patched(&security, &json!({"securityContext": {"$patch": "replace", "fsGroup": 3}})),
            json!({"securityContext": {"fsGroup": 3}})
        );
        assert_eq!(
            patched(&security, &json!({"securityContext": {"$patch": "delete"}})),
            json!({"securityContext": {}})
        );
        assert_eq!(
            patched(&json!({}), &json!({"securityContext": {"fsGroup": null, "runAsUser": 1}})),
            json!({"securityContext": {"runAsUser": 1}})
        );
    }

    #[test]
    fn order_and_deletion_directives_apply_to_lists() {
        let finalizers = |metadata: Value| {
            strategic(&pod(&json!({})), &json!({"metadata": metadata}), rules("Pod")).unwrap()["metadata"]["finalizers"]
                .clone()
        };
        assert_eq!(finalizers(json!({"finalizers": ["a/w", "a/y"]})), json!(["a/w", "a/x", "a/y", "a/z"]));
        assert_eq!(finalizers(json!({"finalizers": ["a/z", "a/x"]})), json!(["a/y", "a/z", "a/x"]));
        assert_eq!(finalizers(json!({"$deleteFromPrimitiveList/finalizers": ["a/y"]})), json!(["a/x", "a/z"]));
        let both = json!({"$deleteFromPrimitiveList/finalizers": ["a/y", "a/w"], "finalizers": ["a/w"]});
        assert_eq!(finalizers(both), json!(["a/x", "a/z"]), "deleted values are not in the result");
        assert_eq!(
            finalizers(json!({"$setElementOrder/finalizers": ["a/z", "a/w", "a/x"], "finalizers": ["a/w"]})),
            json!(["a/y", "a/z", "a/w", "a/x"])
        );
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let patch = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]});
        assert_eq!(patched(&two, &patch), json!({"containers": [{"name": "b"}, {"name": "a"}]}));
    }

    /// The messages are recorded from a real 1.34 server, which gives some of them no reason and reports them as
    /// internal.
    #[test]
    fn invalid_directives_get_the_real_servers_errors() {
        let cases = [
            (json!([]), 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
            (json!({"$patch": "bad"}), 500, "unknown patch type: bad in map: map[$patch:bad]"),
            (json!({"data": {"$retainKeys": ["z"], "y": "1"}}), 400, "invalid patch format of retainKeys"),
            (
                json!({"metadata": {"$setElementOrder/finalizers": 5}}),
                500,
                "expected a []interface {}, but received a int64",
            ),
            (
                json!({"metadata": {"ownerReferences": [{"name": "x"}]}}),
                500,
                "map: map[name:x] does not contain declared merge key: uid",
            ),
        ];
        let object = json!({"metadata": {"ownerReferences": []}, "data": {"k": "v"}});
        for (patch, code, message) in cases {
            let error = strategic(&object, &patch, rules("ConfigMap")).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (code, message), "{patch}");
        }
        assert_eq!(strategic(&object, &Value::Null, rules("ConfigMap")).unwrap(), object);
    }
}
