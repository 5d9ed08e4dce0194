//! Objects as the rows of a table: what `kubectl get` asks for.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::view;
use crate::clock::Clock;
use crate::kinds::{Kind, Origin};
use crate::status::{FieldError, Status};
use crate::table::Table;

/// Writes tables of one kind.
#[derive(Debug)]
pub(super) struct Tables {
    table: Table,
    /// What of each object goes with its row.
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
    /// For the kind of a request, and as it asks.
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

    /// A table of these objects, as they are kept. `head`: with the columns' names.
    pub(super) fn of(&self, kind: &Kind, objects: &[&Value], metadata: &Value, head: bool) -> Value {
        let now = self.clock.now();
        let rows = objects.iter().map(|object| {
            let mut row: Map<String, Value> = self.table.row(object, &now);
            match self.include {
                Include::Nothing => {}
                Include::Metadata => drop(row.insert("object".to_owned(), view::metadata(object))),
                Include::Object => drop(row.insert("object".to_owned(), view::from_kept(kind, object))),
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

    /// A table of one object.
    pub(super) fn of_one(&self, kind: &Kind, object: &Value, head: bool) -> Value {
        let version = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        self.of(kind, &[object], &json!({"resourceVersion": version}), head)
    }
}
