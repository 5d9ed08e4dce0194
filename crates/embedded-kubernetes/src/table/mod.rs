//! Tables, which `kubectl get` asks for. The columns of a custom resource come from its definition, those of a built-in
//! kind from its file in `builtin/kinds/`, as `kubectl` of 1.34 shows them.

pub(crate) mod cells;
mod path;
mod since;

use serde_json::{Map, Value, json};

use self::cells::text;
use self::path::Path;
pub(crate) use self::since::since;

/// The columns of a built-in kind, and the function that fills them.
#[derive(Debug, Clone, Copy)]
pub struct BuiltinTable {
    /// The columns, from the left.
    pub columns: &'static [PrintColumn],
    /// Returns the cells of an object (first), in the order of the columns. The second argument is the time, as
    /// `metav1.Time` is written.
    pub cells: fn(&Value, &str) -> Vec<Value>,
    /// Returns the conditions of a row, for kinds whose rows have any.
    pub conditions: Option<fn(&Value) -> Option<Value>>,
}

impl BuiltinTable {
    /// Name and time of creation: the table of the kinds for which the real server defines no columns.
    pub const CREATED_AT: Self = Self {
        columns: &[PrintColumn::NAME, PrintColumn { kind: "date", ..PrintColumn::text("Created At") }],
        cells: |object, _| vec![cells::name(object), text(object, "/metadata/creationTimestamp").into()],
        conditions: None,
    };
}

/// One column of a built-in kind.
#[derive(Debug, Clone, Copy)]
pub struct PrintColumn {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: i64,
}

impl PrintColumn {
    /// The name of the object.
    pub const NAME: Self = Self { format: "name", ..Self::text("Name") };
    /// The time since the creation of the object.
    pub const AGE: Self = Self::text("Age");

    /// A column of texts.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: "string", format: "", priority: 0 }
    }

    /// A column of whole numbers.
    pub const fn number(name: &'static str) -> Self {
        Self { kind: "integer", ..Self::text(name) }
    }

    /// The same column, shown only by `-o wide`.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// How the objects of one kind are shown.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Rows,
}

/// The head of a column.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    /// 0: always shown. More: shown by `-o wide`.
    priority: i64,
}

#[derive(Debug)]
enum Rows {
    Builtin(BuiltinTable),
    /// The paths of the columns after the name. `None`: a path with unsupported syntax.
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

    fn from_print_column(column: &PrintColumn) -> Self {
        Self::new(column.name, column.kind, column.format, column.priority)
    }
}

impl Table {
    /// Returns the table of a built-in kind.
    pub fn builtin(table: &BuiltinTable) -> Self {
        Self { columns: table.columns.iter().map(Column::from_print_column).collect(), rows: Rows::Builtin(*table) }
    }

    /// Returns the table of a custom resource, from its entry of `spec.versions` in the definition.
    pub fn custom(version: &Value) -> Self {
        let mut columns = vec![Column::from_print_column(&PrintColumn::NAME)];
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

    /// Returns `columnDefinitions`.
    pub fn columns(&self) -> Value {
        let head = |column: &Column| {
            json!({"name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority})
        };
        self.columns.iter().map(head).collect()
    }

    /// Returns the row of an object, without the object: its `cells` and, where it has any, `conditions`. `now` is in
    /// the format of `metav1.Time`.
    pub fn row(&self, object: &Value, now: &str) -> Map<String, Value> {
        let mut row = Map::new();
        let cells = match &self.rows {
            Rows::Builtin(table) => (table.cells)(object, now),
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
        if let Rows::Builtin(table) = &self.rows
            && let Some(conditions) = table.conditions.and_then(|conditions| conditions(object))
        {
            row.insert("conditions".to_owned(), conditions);
        }
        row
    }
}

/// Returns the cell for a value in a column of this type, or null for a value of another type.
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

#[cfg(test)]
mod tests;
