//! Converts an object to the values that rules operate on.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{ExecutionError, Value as CelValue};
use serde_json::{Map, Value};

use super::cel::Subject;
use super::node::SchemaNode;

/// Returns the name of a property in rules.
pub(super) fn escape(property: &str) -> String {
    const RESERVED: [&str; 20] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
    ];
    if RESERVED.contains(&property) || property == "while" {
        return format!("__{property}__");
    }
    property.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

/// A value as input of a rule.
#[derive(Clone, Copy)]
pub(super) struct CelInput<'a> {
    pub(super) value: &'a Value,
    pub(super) subject: Subject<'a>,
}

impl CelInput<'_> {
    pub(super) fn to_cel(self) -> CelValue {
        let CelValue::Map(converted) = convert(self.value, self.subject.node) else {
            return convert(self.value, self.subject.node);
        };
        if !self.subject.resource {
            return CelValue::Map(converted);
        }
        let mut fields: HashMap<cel::objects::Key, CelValue> = converted.map.as_ref().clone();
        for name in ["apiVersion", "kind"] {
            if let Some(text) = self.value.get(name).and_then(Value::as_str) {
                fields.insert(name.into(), text.into());
            }
        }
        let metadata: HashMap<String, CelValue> = ["name", "generateName"]
            .into_iter()
            .filter_map(|name| {
                Some((name.to_owned(), self.value.pointer(&format!("/metadata/{name}"))?.as_str()?.into()))
            })
            .collect();
        fields.insert("metadata".into(), CelValue::Map(metadata.into()));
        CelValue::Map(fields.into())
    }
}

fn convert(value: &Value, node: &SchemaNode) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(flag) => CelValue::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) if node.kind != "number" => CelValue::Int(whole),
            _ => CelValue::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => {
            let unknown = SchemaNode::default();
            let item_node = node.items.as_deref().unwrap_or(&unknown);
            CelValue::List(Arc::new(items.iter().map(|item| convert(item, item_node)).collect()))
        }
        Value::Object(map) => convert_map(map, node),
    }
}

/// Converts an object. If the schema declares properties, only those that are not null are visible; otherwise all
/// fields are.
fn convert_map(map: &Map<String, Value>, node: &SchemaNode) -> CelValue {
    let fields: HashMap<String, CelValue> = if let Some(node) = node.additional() {
        map.iter().map(|(key, value)| (key.clone(), convert(value, node))).collect()
    } else {
        map.iter()
            .filter(|(_, value)| !value.is_null())
            .filter_map(|(key, value)| Some((escape(key), convert(value, node.properties.get(key)?))))
            .collect()
    };
    CelValue::Map(fields.into())
}

/// Parses a duration to nanoseconds, which suffices for comparisons. The format is Go's: `1h30m`, `-1.5s`, `0`.
#[allow(clippy::needless_pass_by_value)] // the engine passes the value
pub(super) fn duration(text: Arc<String>) -> Result<i64, ExecutionError> {
    nanoseconds(&text).ok_or_else(|| {
        ExecutionError::function_error("duration", "type conversion error from 'string' to 'google.protobuf.Duration'")
    })
}

fn nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, text.get(1..)?),
        b'+' => (1, text.get(1..)?),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let unit: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            total = total.checked_add(scale.checked_mul(i64::from(digit.checked_sub(b'0')?))?)?;
        }
        rest = after;
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_as_in_go() {
        let cases = [
            ("0", Some(0)),
            ("1ns", Some(1)),
            ("1.5s", Some(1_500_000_000)),
            (".5m", Some(30_000_000_000)),
            ("1h2m3s", Some(3_723_000_000_000)),
            ("-10ms", Some(-10_000_000)),
            ("3600s", Some(3_600_000_000_000)),
            ("", None),
            ("1", None),
            ("1d", None),
            ("s", None),
            (".s", None),
            ("1 s", None),
            ("99999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nanoseconds(text), expected, "{text:?}");
        }
    }
}
