//! The `JSONPath` of printer columns: `.a.b`, `.a['b']`, `.a[0]`, `.a[*]`, `.a[?(@.type=="Ready")].status`.

use serde_json::Value;

/// One step of a path.
#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// The items whose field at the path is equal, or not equal, to the value.
    Filter(Vec<String>, Comparison, Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
}

/// A parsed path.
#[derive(Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// Parses a path. Returns `None` for any form that the module does not list.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let (name, after) = name(after)?;
                if name == "*" {
                    steps.push(Step::All);
                } else if !name.is_empty() {
                    steps.push(Step::Field(name));
                } else if !(after.starts_with('[') || steps.is_empty() && after.is_empty()) {
                    return None;
                }
                rest = after;
            } else {
                let inner = rest.strip_prefix('[')?;
                let end = end_of_bracket(inner)?;
                steps.push(bracket(inner.get(..end)?)?);
                rest = inner.get(end + 1..)?;
            }
        }
        Some(Self(steps))
    }

    /// Returns the first value at the path.
    pub(super) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        first(&self.0, object)
    }
}

fn first<'a>(steps: &[Step], value: &'a Value) -> Option<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => first(rest, map.get(name)?),
        (Step::Index(index), Value::Array(items)) => {
            let length = i64::try_from(items.len()).ok()?;
            let index = if *index < 0 { index + length } else { *index };
            first(rest, items.get(usize::try_from(index).ok()?)?)
        }
        (Step::All, Value::Array(items)) => items.iter().find_map(|item| first(rest, item)),
        (Step::All, Value::Object(map)) => map.values().find_map(|item| first(rest, item)),
        (Step::Filter(path, comparison, wanted), Value::Array(items)) => items
            .iter()
            .filter(|item| {
                let found = path.iter().try_fold(*item, |at, name| at.get(name));
                found.is_some_and(|found| (found == wanted) == (*comparison == Comparison::Equal))
            })
            .find_map(|item| first(rest, item)),
        _ => None,
    }
}

/// Parses a name up to the next dot or bracket. A backslash escapes the next character.
fn name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '.' | '[' => return Some((name, text.get(at..)?)),
            '\\' => name.push(characters.next()?.1),
            other => name.push(other),
        }
    }
    Some((name, ""))
}

/// Returns the position of the bracket that closes the open one. Brackets in quotes do not count.
fn end_of_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), other) if open == other => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn bracket(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Ok(index) = text.parse() {
        return Some(Step::Index(index));
    }
    let filter = text.strip_prefix("?(")?.strip_suffix(')')?;
    let (comparison, (left, right)) = filter
        .split_once("==")
        .map(|sides| (Comparison::Equal, sides))
        .or_else(|| filter.split_once("!=").map(|sides| (Comparison::NotEqual, sides)))?;
    let path: Vec<String> = left.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect();
    let right = right.trim();
    let wanted = match quoted(right) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(right).ok()?,
    };
    Some(Step::Filter(path, comparison, wanted))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn path_supports_the_forms_that_columns_use() {
        let object = json!({"a": {"b.c": 1, "d": [10, 20, {"e": 5}]}, "status": {"conditions": [
            {"type": "A", "status": "False", "n": 1}, {"type": "Ready", "status": "True", "at": {"x": "y"}}]}});
        for (path, expected) in [
            (".a.d[0]", Some(json!(10))),
            (".a.d[-2]", Some(json!(20))),
            (".a.d[7]", None),
            (".a.d[*].e", Some(json!(5))),
            (".a['b.c']", Some(json!(1))),
            (".a.b\\.c", Some(json!(1))),
            (".a[\"b.c\"]", Some(json!(1))),
            (".status.conditions[?(@.type==\"Ready\")].status", Some(json!("True"))),
            (".status.conditions[?(@.type == 'Ready')].status", Some(json!("True"))),
            (".status.conditions[?(@.type!='A')].type", Some(json!("Ready"))),
            (".status.conditions[?(@.n==1)].type", Some(json!("A"))),
            (".status.conditions[?(@.at.x=='y')].type", Some(json!("Ready"))),
            (".status.conditions[?(@.type==\"None\")].status", None),
            (".x.y", None),
            (".a.d.e", None),
            (".status.conditions.status", None),
        ] {
            assert_eq!(Path::read(path).unwrap().first(&object).cloned(), expected, "{path}");
        }
        for path in ["a.b", ".a[", ".a[?(@.x)]", ".a[?(x==1)]", "..a", ".a[b]", ".a[?(@.x=='y]", ".a\\"] {
            assert_eq!(Path::read(path), None, "{path}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn path_never_panics(text in "[.\\[\\]?(@)='\"a-c0-9\\\\*!-]{0,24}") {
            if let Some(path) = Path::read(&text) {
                path.first(&json!({"a": [{"b": 1}], "b": {"c": "a"}}));
            }
        }
    }
}
