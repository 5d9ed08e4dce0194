//! Compares the tables with those that a real 1.34 server made (`recorded/`).

use proptest::prelude::*;
use serde::Deserialize as _;

use super::*;
use crate::builtin;

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("recorded/tables.json")).unwrap()
}

fn table_of(kind: &str) -> Table {
    match kind {
        "StreamJob" => {
            let text =
                std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/sluice.dev.yaml")).unwrap();
            let document = serde_yaml::Deserializer::from_str(&text).next().unwrap();
            Table::custom(&Value::deserialize(document).unwrap()["spec"]["versions"][0])
        }
        "W" => Table::custom(&json!({"name": "v1"})),
        kind => Table::builtin(&builtin::ALL.iter().find(|builtin| builtin.api.kind == kind).unwrap().table),
    }
}

#[test]
fn tables_equal_those_of_the_real_server() {
    let mut wrong = Vec::new();
    for case in recorded() {
        let kind = case["kind"].as_str().unwrap();
        let table = table_of(kind);
        let mut columns = table.columns();
        for column in columns.as_array_mut().unwrap() {
            column.as_object_mut().unwrap().remove("description");
        }
        if columns != case["columns"] {
            wrong.push(format!("{kind}\n  got  {columns}\n  want {}", case["columns"]));
        }
        for recorded in case["rows"].as_array().unwrap() {
            // The time was taken right after the table, so the answer may be one second older.
            let now: jiff::Timestamp = case["now"].as_str().unwrap().parse().unwrap();
            let fits = [0, -1, 1].into_iter().any(|later| {
                let now = jiff::Timestamp::from_second(now.as_second() + later).unwrap().to_string();
                table.row(&recorded["object"], &now)["cells"] == recorded["cells"]
            });
            let row = table.row(&recorded["object"], &now.to_string());
            if !fits || row.get("conditions") != recorded.get("conditions") {
                wrong.push(format!("{kind}\n  got  {row:?}\n  want {}", recorded["cells"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cells_have_the_type_of_their_column() {
    let version = json!({"additionalPrinterColumns": [
        {"name": "S", "type": "string", "jsonPath": ".v"}, {"name": "I", "type": "integer", "jsonPath": ".v"},
        {"name": "N", "type": "number", "jsonPath": ".v"}, {"name": "B", "type": "boolean", "jsonPath": ".v"},
        {"name": "D", "type": "date", "jsonPath": ".v", "priority": 1}, {"name": "X", "type": "string", "jsonPath": "v["},
    ]});
    let table = Table::custom(&version);
    let cells = |value: Value| {
        let row = table.row(&json!({"metadata": {"name": "n"}, "v": value}), "2026-01-01T00:01:00Z");
        row["cells"].as_array().unwrap()[1..].to_vec()
    };
    let none = Value::Null;
    let row = |s: Value, i: Value, n: Value, b: Value, d: Value| vec![s, i, n, b, d, Value::Null];
    assert_eq!(cells(json!(5)), row(json!("5"), json!(5), json!(5), none.clone(), none.clone()));
    assert_eq!(cells(json!(5.5)), row(json!("5.5"), json!(5), json!(5.5), none.clone(), none.clone()));
    assert_eq!(cells(json!(true)), row(json!("true"), none.clone(), none.clone(), json!(true), none.clone()));
    assert_eq!(cells(json!("x")), row(json!("x"), none.clone(), none.clone(), none.clone(), json!("<invalid>")));
    let time = json!("2026-01-01T00:00:00Z");
    assert_eq!(cells(time.clone()), row(time, none.clone(), none.clone(), none.clone(), json!("60s")));
    assert_eq!(cells(Value::Null), vec![none; 6]);
    assert_eq!(table.columns()[5]["priority"], 1);
    assert_eq!(table.columns()[1]["description"], "Custom resource definition column (in JSONPath format): .v");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The objects have another type where the kind has a list, a map or a number.
    #[test]
    fn row_of_any_object_has_a_cell_for_each_column(
        at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), field in any::<prop::sample::Index>(),
        junk in prop::sample::select(vec![json!(null), json!([]), json!({}), json!("x"), json!(-1), json!([[]]), json!([{}])]),
    ) {
        let all = recorded();
        let case = at.get(&all);
        let rows = case["rows"].as_array().unwrap();
        prop_assume!(!rows.is_empty());
        let mut object = which.get(rows)["object"].clone();
        let mut pointers = vec![String::new()];
        gather(&object, "", &mut pointers);
        *object.pointer_mut(field.get::<String>(&pointers)).unwrap() = junk;
        let table = table_of(case["kind"].as_str().unwrap());
        let row = table.row(&object, "2026-01-01T00:00:00Z");
        prop_assert_eq!(row["cells"].as_array().unwrap().len(), table.columns().as_array().unwrap().len());
    }
}

fn gather(value: &Value, path: &str, pointers: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                pointers.push(path.clone());
                gather(value, &path, pointers);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}/{index}");
                pointers.push(path.clone());
                gather(item, &path, pointers);
            }
        }
        _ => {}
    }
}
