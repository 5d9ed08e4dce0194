//! `metadata.managedFields`: which manager has written which fields, and by which kind of request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::set::Set;

/// A manager. Managers that apply are the same for all versions; those that update are distinguished by version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) applies: bool,
    /// The version that was written. Empty for managers that apply.
    pub(super) version: String,
    pub(super) subresource: String,
}

impl Manager {
    /// Returns the text by which conflicts are sorted.
    pub(super) fn identifier(&self) -> String {
        let operation = if self.applies { "Apply" } else { "Update" };
        let more = |key: &str, text: &str| if text.is_empty() { String::new() } else { format!(",{key:?}:{text:?}") };
        let (version, subresource) = (more("apiVersion", &self.version), more("subresource", &self.subresource));
        format!("{{\"manager\":{:?},\"operation\":{operation:?}{version}{subresource}}}", self.name)
    }

    /// Returns the manager as conflict messages name it.
    pub(super) fn description(&self) -> String {
        let subresource = match self.subresource.as_str() {
            "" => String::new(),
            subresource => format!(" with subresource {subresource:?}"),
        };
        let version = if self.applies { String::new() } else { format!(" using {}", self.version) };
        format!("{:?}{subresource}{version}", self.name)
    }
}

/// The fields that a manager owns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owned {
    pub(super) fields: Set,
    pub(super) version: String,
    pub(super) time: String,
}

/// All managers of an object.
pub(super) type Managers = BTreeMap<Manager, Owned>;

/// The most managers that update. Beyond it the oldest are merged.
const MAX_UPDATERS: usize = 10;

/// Reads `metadata.managedFields`. `None`: the entries cannot be parsed.
pub(super) fn read(entries: Option<&Value>) -> Option<Managers> {
    let Some(entries) = entries.filter(|entries| !entries.is_null()) else { return Some(Managers::new()) };
    entries.as_array()?.iter().map(entry).collect()
}

fn entry(entry: &Value) -> Option<(Manager, Owned)> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let applies = match text("operation").as_str() {
        "Apply" => true,
        "Update" => false,
        _ => return None,
    };
    let version = text("apiVersion");
    if version.is_empty() || text("fieldsType") != "FieldsV1" {
        return None;
    }
    let empty = Value::Object(Map::new());
    let fields = Set::read(entry.get("fieldsV1").filter(|fields| !fields.is_null()).unwrap_or(&empty))?;
    let manager = Manager {
        name: text("manager"),
        applies,
        version: if applies { String::new() } else { version.clone() },
        subresource: text("subresource"),
    };
    Some((manager, Owned { fields, version, time: text("time") }))
}

/// Writes `metadata.managedFields`. `None`: there are no managers.
pub(super) fn write(managers: &Managers) -> Option<Value> {
    let mut entries: Vec<(&Manager, &Owned)> = managers.iter().filter(|(_, owned)| !owned.fields.is_empty()).collect();
    entries.sort_by_key(|(manager, owned)| {
        (!manager.applies, &owned.time, &manager.name, &owned.version, &manager.subresource)
    });
    let entries: Vec<Value> = entries
        .into_iter()
        .map(|(manager, owned)| {
            let mut entry = json!({
                "manager": manager.name,
                "operation": if manager.applies { "Apply" } else { "Update" },
                "apiVersion": owned.version,
                "fieldsType": "FieldsV1",
                "fieldsV1": owned.fields.to_json(),
            });
            if let Value::Object(entry) = &mut entry {
                for (key, text) in [("time", &owned.time), ("subresource", &manager.subresource)] {
                    if !text.is_empty() {
                        entry.insert(key.to_owned(), text.as_str().into());
                    }
                }
            }
            entry
        })
        .collect();
    (!entries.is_empty()).then_some(Value::Array(entries))
}

/// Returns whether a request resets the managers: it sends an empty list, or one empty entry.
pub(super) fn resets(entries: Option<&Value>) -> bool {
    match entries.and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Merges the oldest managers by version if there are too many that update.
pub(super) fn cap(managers: &mut Managers) {
    let mut updating: Vec<(String, Manager)> = managers
        .iter()
        .filter(|(manager, _)| !manager.applies)
        .map(|(m, owned)| (owned.time.clone(), m.clone()))
        .collect();
    let mut left = updating.len();
    updating.sort();
    let mut first: BTreeMap<String, Manager> = BTreeMap::new();
    for (_, manager) in updating {
        if left <= MAX_UPDATERS {
            break;
        }
        let Some(version) = managers.get(&manager).map(|owned| owned.version.clone()) else { continue };
        let Some(oldest) = first.get(&version).cloned() else {
            first.insert(version, manager);
            continue;
        };
        let bucket = Manager {
            name: "ancient-changes".to_owned(),
            applies: false,
            version: version.clone(),
            subresource: String::new(),
        };
        if !managers.contains_key(&bucket)
            && let Some(owned) = managers.remove(&oldest)
        {
            managers.insert(bucket.clone(), owned);
        }
        if let Some(owned) = managers.remove(&manager) {
            let into = managers.entry(bucket).or_insert_with(|| owned.clone());
            into.fields = into.fields.union(&owned.fields);
            into.time = owned.time;
        }
        left -= 1;
    }
}
