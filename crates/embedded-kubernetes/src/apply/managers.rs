//! `metadata.managedFields`: who has written which fields, by which kind of request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::set::Set;

/// Who has written. Appliers are the same whatever version they apply; all others are told apart by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) applies: bool,
    /// Empty for appliers.
    pub(super) version: String,
    pub(super) subresource: String,
}

impl Manager {
    /// By which conflicts are ordered.
    pub(super) fn identifier(&self) -> String {
        let operation = if self.applies { "Apply" } else { "Update" };
        let more = |key: &str, text: &str| if text.is_empty() { String::new() } else { format!(",{key:?}:{text:?}") };
        let (version, subresource) = (more("apiVersion", &self.version), more("subresource", &self.subresource));
        format!("{{\"manager\":{:?},\"operation\":{operation:?}{version}{subresource}}}", self.name)
    }

    /// As conflicts name it.
    pub(super) fn in_words(&self) -> String {
        let subresource = match self.subresource.as_str() {
            "" => String::new(),
            subresource => format!(" with subresource {subresource:?}"),
        };
        let version = if self.applies { String::new() } else { format!(" using {}", self.version) };
        format!("{:?}{subresource}{version}", self.name)
    }
}

/// What one manager has written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owned {
    pub(super) fields: Set,
    pub(super) version: String,
    pub(super) time: String,
}

/// All managers of an object.
pub(super) type Managers = BTreeMap<Manager, Owned>;

/// Most managers that update. Beyond that the oldest are thrown together.
const MOST: usize = 10;

/// Reads `metadata.managedFields`. `None`: it is not to be understood.
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

/// `metadata.managedFields`. `None`: nobody is known.
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

/// Whether a request says that all managers are to be forgotten: an empty list, or one empty entry.
pub(super) fn resets(entries: Option<&Value>) -> bool {
    match entries.and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Throws the oldest of too many updating managers together, by version.
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
        if left <= MOST {
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
