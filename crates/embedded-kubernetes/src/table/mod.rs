//! Tables, which is what `kubectl get` asks for: a custom resource's columns from its definition, the built-in kinds' as
//! `kubectl` of 1.34 shows them.

mod builtin;
mod path;
mod pod;
mod since;

use serde_json::{Map, Value, json};

use self::path::Path;

/// How the objects of one kind are shown.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Rows,
}

/// A column's head.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    /// 0: always shown; more: by `-o wide`.
    priority: i64,
}

#[derive(Debug)]
enum Rows {
    Builtin(builtin::Cells),
    /// The paths of the columns after the name. `None`: a path that is not understood.
    Paths(Vec<Option<Path>>),
}

impl Column {
    fn new(name: &str, kind: &str, format: &str, priority: i64) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: format.to_owned(),
            description: String::new(),
            priority,
        }
    }

    fn name() -> Self {
        Self::new("Name", "string", "name", 0)
    }
}

impl Table {
    /// The table of a built-in kind; name and time of creation for one that has none of its own.
    pub fn builtin(kind: &str) -> Self {
        let (columns, cells) = builtin::of(kind);
        Self { columns, rows: Rows::Builtin(cells) }
    }

    /// The table of a custom resource, from its entry of `spec.versions` in the definition.
    pub fn custom(version: &Value) -> Self {
        let mut columns = vec![Column::name()];
        let mut paths = Vec::new();
        let age = [json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "The time at which the object was created."})];
        let own = version.get("additionalPrinterColumns").and_then(Value::as_array);
        for column in own.map_or(age.as_slice(), Vec::as_slice) {
            let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default();
            let description = match text("description") {
                "" => format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath")),
                description => description.to_owned(),
            };
            let priority = column.get("priority").and_then(Value::as_i64).unwrap_or_default();
            columns.push(Column { description, ..Column::new(text("name"), text("type"), text("format"), priority) });
            paths.push(Path::read(text("jsonPath")));
        }
        Self { columns, rows: Rows::Paths(paths) }
    }

    /// `columnDefinitions`.
    pub fn columns(&self) -> Value {
        let head = |column: &Column| {
            json!({"name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority})
        };
        self.columns.iter().map(head).collect()
    }

    /// The row of an object, without the object: its `cells` and, where it has any, `conditions`. `now` as
    /// `metav1.Time` is written.
    pub fn row(&self, object: &Value, now: &str) -> Map<String, Value> {
        let mut row = Map::new();
        let cells = match &self.rows {
            Rows::Builtin(cells) => cells(object, now),
            Rows::Paths(paths) => {
                let name = [text(object, "/metadata/name").into()];
                let columns = self.columns.iter().skip(1);
                let cells = paths.iter().zip(columns).map(|(path, column)| {
                    let value = path.as_ref().and_then(|path| path.first(object)).filter(|value| !value.is_null());
                    value.map_or(Value::Null, |value| cell(&column.kind, value, now))
                });
                name.into_iter().chain(cells).collect()
            }
        };
        row.insert("cells".to_owned(), Value::Array(cells));
        if let Rows::Builtin(_) = &self.rows
            && let Some(conditions) = pod::conditions(object)
        {
            row.insert("conditions".to_owned(), conditions);
        }
        row
    }
}

/// A value in a column of this type; null where it is of another.
fn cell(kind: &str, value: &Value, now: &str) -> Value {
    match (kind, value) {
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(whole) => whole.into(),
            #[allow(clippy::cast_possible_truncation)] // as Go does
            None => number.as_f64().map_or(Value::Null, |number| (number as i64).into()),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match since::since(text, now).as_str() {
            "<unknown>" => "<invalid>".into(),
            since => since.into(),
        },
        _ => Value::Null,
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The condition of this type.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

#[cfg(test)]
mod tests;
