//! Which kinds of objects there are: the built-in ones of [`builtin`], and those that `CustomResourceDefinitions` add.

mod builtin;
mod custom;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::schema::Schema;

pub use custom::from_definition;

/// Where objects are kept: all versions of a kind share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Empty: the core group.
    pub group: String,
    /// The plural, in lower case.
    pub plural: String,
}

impl Resource {
    /// A resource by its group and plural.
    pub fn new(group: &str, plural: &str) -> Self {
        Self { group: group.to_owned(), plural: plural.to_owned() }
    }
}

/// One version of one kind of objects, as discovery shows it.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "a row of the table of kinds: each is a fact of its own")]
pub struct Kind {
    /// Empty: the core group.
    pub group: String,
    /// For example `v1`.
    pub version: String,
    /// In CamelCase.
    pub kind: String,
    /// The kind of its lists.
    pub list_kind: String,
    /// The plural, in lower case.
    pub plural: String,
    /// The singular, in lower case.
    pub singular: String,
    /// What it may be called on a command line.
    pub short_names: Vec<String>,
    /// Groups such as `all` that it is in.
    pub categories: Vec<String>,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether objects are kept. The others are only asked about: a `SelfSubjectAccessReview`.
    pub stored: bool,
    /// Whether all objects can be deleted at once.
    pub delete_collection: bool,
    /// Whether status is written only through its subresource.
    pub status: bool,
    /// Where the numbers of the subresource scale are.
    pub scale: Option<ScalePaths>,
    /// Whether an update without a resource version is taken.
    pub unconditional_update: bool,
    /// Whether an update of an object that is not there creates it.
    pub create_on_update: bool,
    /// Whether `metadata.generation` counts changes of the specification.
    pub generation: bool,
    /// Where the objects are kept.
    pub storage: Option<Resource>,
    /// What a `CustomResourceDefinition` says of this version. `None`: built in.
    pub custom: Option<Arc<Custom>>,
}

/// What a `CustomResourceDefinition` says of one version.
#[derive(Debug, Clone, Default)]
pub struct Custom {
    /// The entry of `spec.versions`.
    pub version: Value,
    /// `spec.preserveUnknownFields`
    pub preserve_unknown_fields: bool,
    /// The version that is stored.
    pub storage_version: String,
    /// The revision of the definition: what was written before may lack a default.
    pub revision: u64,
    /// The fields that field selectors may name, as JSON paths.
    pub selectable_fields: Vec<String>,
    /// Whether nothing is created any more, for the definition is being deleted.
    pub terminating: bool,
    /// What its objects must be like. `None`: a definition without a usable schema, whose objects are kept as they come.
    pub schema: Option<Arc<Schema>>,
}

/// Where the numbers of the subresource scale are, as JSON paths such as `.spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wished number.
    pub spec: String,
    /// The observed number.
    pub status: String,
    /// The selector, as text.
    pub selector: Option<String>,
}

/// A subresource, as discovery shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// For example `scale`.
    pub name: &'static str,
    /// Group, version and kind of what is sent; the group and version are empty if they are those of the resource.
    pub kind: (&'static str, &'static str, String),
    /// What can be done with it.
    pub verbs: &'static [&'static str],
}

const STORED: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const COLLECTION: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Kind {
    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Where the objects are kept.
    pub fn resource(&self) -> Resource {
        self.storage.clone().unwrap_or_else(|| Resource::new(&self.group, &self.plural))
    }

    /// Whether a `CustomResourceDefinition` defines it.
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// Whether it is this built-in kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        !self.is_custom() && self.group == group && self.kind == kind
    }

    /// What can be done with it.
    pub fn verbs(&self) -> &'static [&'static str] {
        match (self.stored, self.delete_collection) {
            (false, _) => &["create"],
            (true, false) => STORED,
            (true, true) => COLLECTION,
        }
    }

    /// Its subresources.
    pub fn subresources(&self) -> Vec<Subresource> {
        const WRITE: &[&str] = &["get", "patch", "update"];
        let mut all = Vec::new();
        let mut add = |name, kind: (&'static str, &'static str, &str), verbs| {
            all.push(Subresource { name, kind: (kind.0, kind.1, kind.2.to_owned()), verbs });
        };
        if self.is("", "Pod") {
            add("binding", ("", "", "Binding"), &["create"]);
            add("eviction", ("policy", "v1", "Eviction"), &["create"]);
            add("log", ("", "", "Pod"), &["get"]);
        }
        if self.is("", "Namespace") {
            add("finalize", ("", "", "Namespace"), &["update"]);
        }
        if self.scale.is_some() {
            add("scale", ("autoscaling", "v1", "Scale"), WRITE);
        }
        if self.status {
            add("status", ("", "", &self.kind), WRITE);
        }
        all
    }
}

/// All kinds that are served, and how they are found.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<(String, String, String), Arc<Kind>>,
}

impl Registry {
    /// The built-in kinds, and those of the `CustomResourceDefinitions` that are given.
    pub fn new<'a>(definitions: impl Iterator<Item = &'a Value>) -> Self {
        let custom = definitions.flat_map(from_definition);
        let kinds = builtin::kinds().into_iter().chain(custom).map(Arc::new);
        Self {
            kinds: kinds.map(|kind| ((kind.group.clone(), kind.version.clone(), kind.plural.clone()), kind)).collect(),
        }
    }

    /// The kind that a path names.
    pub fn at(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The kind that an object names.
    pub fn of(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.kinds.values().find(|known| known.kind == kind && known.api_version() == api_version)
    }

    /// All kinds of one group and version, by plural.
    pub fn in_version(&self, group: &str, version: &str) -> impl Iterator<Item = &Arc<Kind>> {
        let (group, version) = (group.to_owned(), version.to_owned());
        self.kinds.values().filter(move |kind| kind.group == group && kind.version == version)
    }

    /// All kinds.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    /// The groups, the core group first and then by name; each with its versions, the preferred one first.
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for kind in self.kinds.values() {
            let versions = groups.entry(&kind.group).or_default();
            if !versions.contains(&kind.version.as_str()) {
                versions.push(&kind.version);
            }
        }
        let sorted = groups.into_iter().map(|(group, mut versions)| {
            versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
            (group.to_owned(), versions.into_iter().map(str::to_owned).collect())
        });
        sorted.collect()
    }
}

/// The order of versions: stable over beta over alpha, then by number; other names last.
fn rank(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest.get(..end)?.parse().ok()?;
        match rest.get(end..)? {
            "" => Some((3, major, 0)),
            minor => match (minor.strip_prefix("beta"), minor.strip_prefix("alpha")) {
                (Some(number), _) => Some((2, major, number.parse().ok()?)),
                (_, Some(number)) => Some((1, major, number.parse().ok()?)),
                _ => None,
            },
        }
    };
    parse().unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_preferred_as_the_real_server_prefers_them() {
        let mut versions = vec!["v1alpha1", "v2", "foo", "v1beta2", "v10", "v1beta1"];
        versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
        assert_eq!(versions, ["v10", "v2", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }

    #[test]
    fn a_definition_adds_its_served_versions() {
        let definition = json!({
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing", "shortNames": ["th"]},
                "versions": [
                    {"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {
                        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}},
                    {"name": "v1", "served": true, "storage": false},
                    {"name": "v0", "served": false, "storage": false},
                ],
            },
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        });
        let registry = Registry::new([&definition].into_iter());
        let thing = registry.at("example.com", "v1alpha1", "things").unwrap();
        assert!(thing.status && thing.is_custom() && thing.namespaced);
        assert_eq!(thing.scale.as_ref().unwrap().spec, ".spec.replicas");
        assert!(registry.at("example.com", "v0", "things").is_none());
        assert_eq!(registry.of("example.com/v1", "Thing").unwrap().list_kind, "ThingList");
        let groups = registry.groups();
        assert!(groups.contains(&("example.com".to_owned(), vec!["v1".to_owned(), "v1alpha1".to_owned()])));
        assert_eq!(groups[0].0, "");
    }
}
