//! Writes objects as rows of a table, as `kubectl get` requests them.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::view;
use crate::clock::Clock;
use crate::kinds::{Kind, Origin};
use crate::status::{FieldError, Status};
use crate::table::Table;

/// Writes tables for the kind of one request.
#[derive(Debug)]
pub(super) struct Tables {
    table: Table,
    /// What each row includes of its object.
    include: Include,
    clock: Clock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Tables {
    /// Creates a writer with the columns and options of a request.
    pub(super) fn new(call: &Call, clock: &Clock) -> Result<Self, Status> {
        let include = match call.query.get("includeObject") {
            "None" => Include::Nothing,
            "" | "Metadata" => Include::Metadata,
            "Object" => Include::Object,
            other => {
                let supported = &["Metadata", "None", "Object"];
                let error = FieldError::not_supported("includeObject", other, supported);
                return Err(Status::invalid("meta.k8s.io", "TableOptions", "", &[error]));
            }
        };
        let table = match &call.kind.origin {
            Origin::Custom(custom) => Table::custom(&custom.version),
            Origin::Builtin(builtin) => Table::builtin(&builtin.table),
        };
        Ok(Self { table, include, clock: clock.clone() })
    }

    /// Returns a table of stored objects. `head` includes the definitions of the columns.
    pub(super) fn table_of(&self, kind: &Kind, objects: &[&Value], metadata: &Value, head: bool) -> Value {
        let now = self.clock.now();
        let rows = objects.iter().map(|object| {
            let mut row: Map<String, Value> = self.table.row(object, &now);
            match self.include {
                Include::Nothing => {}
                Include::Metadata => drop(row.insert("object".to_owned(), view::metadata(object))),
                Include::Object => drop(row.insert("object".to_owned(), view::from_stored(kind, object))),
            }
            Value::Object(row)
        });
        let rows: Vec<Value> = rows.collect();
        let columns = if head { self.table.columns() } else { Value::Null };
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns,
            "rows": rows,
        })
    }

    /// Returns a table of one object.
    pub(super) fn table_of_one(&self, kind: &Kind, object: &Value, head: bool) -> Value {
        let version = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        self.table_of(kind, &[object], &json!({"resourceVersion": version}), head)
    }
}
