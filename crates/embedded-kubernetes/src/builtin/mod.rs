//! The built-in kinds. [`BuiltinKind`] is everything that the server knows of one, `kinds/` has a file for each, and
//! [`ALL`] is the list of them. `README.md` of the crate has the recipe "Add a built-in kind".

mod defaults;
mod kinds;
mod rules;
mod schemas;
mod shape;

use serde_json::{Map, Value};

pub use kinds::ALL;
pub use schemas::schemas;
pub use shape::{ApiType, missing, read_metadata, shape_metadata};

use super::kinds::Subresource;
use super::lists::MergeRules;
use super::meta;
use super::status::{FieldError, Status};
use super::table::BuiltinTable;

/// Everything that is particular to one built-in kind. No field has a default: a new kind decides all of them.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "a row of a table: the columns are independent of each other")]
pub struct BuiltinKind {
    /// The generated API type: group, version, kind, plural, scope, schema and fields.
    pub api: ApiType,
    /// Short names for the command line, such as `po`.
    pub short_names: &'static [&'static str],
    /// Groups of kinds such as `all` for the command line.
    pub categories: &'static [&'static str],
    /// Where the objects are stored.
    pub storage: Storage,
    /// Whether the kind has the subresource `status`, the only way to write the status.
    pub status: bool,
    /// Whether the kind has the subresource `scale`, over `.spec.replicas`, `.status.replicas` and `.spec.selector`.
    pub scale: bool,
    /// The other subresources, in the order of their names, all before `scale`.
    pub subresources: &'static [Subresource<'static>],
    /// Whether an update without a resource version is accepted.
    pub unconditional_update: bool,
    /// Whether an update of an object that does not exist creates it.
    pub create_on_update: bool,
    /// Whether all objects of a namespace can be deleted in one request.
    pub delete_collection: bool,
    /// Whether the answer to a deletion is the object, and not a `Status`.
    pub delete_returns_object: bool,
    /// Whether a deletion can ask for its dependents to be orphaned, or deleted first.
    pub garbage_collected: bool,
    /// What `metadata.generation` counts.
    pub generation: Generation,
    /// JSON pointer to the specification of a pod, for kinds that have one: `PodSecurity` judges it.
    pub pod_spec: Option<&'static str>,
    /// The fields that field selectors may name, beside name and namespace.
    pub field_selectors: &'static [&'static str],
    /// The columns that `kubectl get` shows.
    pub table: BuiltinTable,
    /// How lists and maps are merged, where the kind adds to the shared rules.
    pub merge: MergeRules,
    /// Returns what is wrong with a name.
    pub check_name: fn(&str) -> Option<String>,
    /// Fills in defaults.
    pub defaults: Option<fn(&mut Map<String, Value>)>,
    /// Returns the status of a new object.
    pub first_status: Option<fn(&Value) -> Value>,
    /// Adds what is wrong with an object, be it new or changed.
    pub check: Option<fn(&Value, &mut Vec<FieldError>)>,
    /// Adds what is wrong with an object (second) that replaces another (first).
    pub check_update: Option<fn(&Value, &Value, &mut Vec<FieldError>)>,
    /// The rest, which few kinds have.
    pub hooks: Hooks,
}

/// Returns the status (second) with what a write of the status cannot remove from the stored object (first).
pub type KeepInStatus = fn(&Value, Option<Value>) -> Option<Value>;

/// Code that runs at one point of a write, for kinds that the real server treats specially there.
#[derive(Debug)]
pub struct Hooks {
    /// Completes an object that has just been read into its API type.
    pub complete_shape: Option<fn(&mut Value)>,
    /// Restores in an object (second) what a write of the whole object cannot change in the stored one (first).
    pub keep_on_update: Option<fn(&Value, &mut Value)>,
    /// Restores in a written status what the write cannot remove.
    pub keep_in_status: Option<KeepInStatus>,
}

impl Hooks {
    /// No hook.
    pub const NONE: Self = Self { complete_shape: None, keep_on_update: None, keep_in_status: None };
}

/// Where the objects of a built-in kind are stored.
#[derive(Debug)]
pub enum Storage {
    /// Under the kind's own group and plural.
    Own,
    /// Not at all: a request is answered and forgotten.
    Nowhere,
    /// As objects of another resource, of which this kind is a second form.
    SharedWith(SharedStorage),
}

/// The resource that stores the objects of a kind which is a second form of another.
#[derive(Debug)]
pub struct SharedStorage {
    /// The group of the stored form.
    pub group: &'static str,
    /// The plural of the stored form.
    pub plural: &'static str,
    /// Turns an object of this kind into the stored form.
    pub to_stored: fn(&mut Value),
    /// Turns an object in the stored form into one of this kind.
    pub from_stored: fn(&mut Value),
}

/// What `metadata.generation` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Nothing: the field is absent.
    NotCounted,
    /// Changes of anything but metadata and status.
    Content,
    /// Those, and changes of the annotations.
    ContentAndAnnotations,
}

impl BuiltinKind {
    /// Reads an object into its API type and writes it back, which drops unknown fields. Refuses wrong types.
    pub fn shape(&self, object: &mut Value) -> Result<(), Status> {
        shape::drop_empty(object);
        self.read(object)?;
        shape::drop_empty(object);
        if let Some(complete) = self.hooks.complete_shape {
            complete(object);
        }
        Ok(())
    }

    /// Does the same as [`Self::shape`], but keeps empty lists and maps.
    pub fn read(&self, object: &mut Value) -> Result<(), Status> {
        (self.api.read)(object).map_err(|error| shape::does_not_fit(self.api.kind, self.api.version, &error))
    }

    /// Fills in defaults.
    pub fn set_defaults(&self, object: &mut Value) {
        if let Some(set) = self.defaults {
            set(meta::as_map(object));
        }
    }

    /// Returns what is wrong with `new`, which is to replace `old`, if there is one.
    pub fn errors(&self, old: Option<&Value>, new: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let (Some(check), Some(old)) = (self.check_update, old) {
            check(old, new, &mut errors);
        }
        if let Some(check) = self.check {
            check(new, &mut errors);
        }
        errors
    }

    /// Returns the resource that stores the objects, if it is that of another kind.
    pub fn shared_storage(&self) -> Option<&SharedStorage> {
        match &self.storage {
            Storage::SharedWith(shared) => Some(shared),
            Storage::Own | Storage::Nowhere => None,
        }
    }
}

/// Returns the merge rules of the kind with this name, for tests.
#[cfg(test)]
pub(crate) fn merge_rules(kind: &str) -> &'static MergeRules {
    &ALL.iter().find(|builtin| builtin.api.kind == kind).unwrap().merge
}
