//! The kinds of objects that are served: the built-in ones of [`crate::builtin`], and those that
//! `CustomResourceDefinitions` add.

mod builtin;
mod custom;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::builtin::BuiltinKind;
use super::lists::MergeRules;
use super::schema::Schema;

pub use custom::from_definition;

/// Where objects are stored. All versions of a kind share one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Empty: the core group.
    pub group: String,
    /// The plural, in lower case.
    pub plural: String,
}

impl Resource {
    /// Returns the resource with this group and plural.
    pub fn new(group: &str, plural: &str) -> Self {
        Self { group: group.to_owned(), plural: plural.to_owned() }
    }
}

/// One version of one kind of objects, as discovery shows it.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "a row of the table of kinds: the columns are independent")]
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
    /// Short names for the command line, such as `po`.
    pub short_names: Vec<String>,
    /// Groups of kinds such as `all` for the command line.
    pub categories: Vec<String>,
    /// Whether the objects are in namespaces.
    pub namespaced: bool,
    /// Whether the objects are stored. Requests for other kinds, such as `SelfSubjectAccessReview`, are answered and
    /// forgotten.
    pub stored: bool,
    /// Whether all objects of a namespace can be deleted in one request.
    pub delete_collection: bool,
    /// Whether the status is written only through the subresource `status`.
    pub status: bool,
    /// Where the subresource `scale` finds its values.
    pub scale: Option<ScalePaths>,
    /// Whether an update without a resource version is accepted.
    pub unconditional_update: bool,
    /// Whether an update of an object that does not exist creates it.
    pub create_on_update: bool,
    /// Whether `metadata.generation` counts changes of the specification.
    pub generation: bool,
    /// Where the objects are stored, if not under the group and plural above.
    pub storage: Option<Resource>,
    /// What defines the kind.
    pub origin: Origin,
}

/// What defines a kind.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The server itself.
    Builtin(&'static BuiltinKind),
    /// A `CustomResourceDefinition`.
    Custom(Arc<Custom>),
}

/// What a `CustomResourceDefinition` defines for one version.
#[derive(Debug, Clone, Default)]
pub struct Custom {
    /// The entry of `spec.versions`.
    pub version: Value,
    /// `spec.preserveUnknownFields`
    pub preserve_unknown_fields: bool,
    /// The version that is stored.
    pub storage_version: String,
    /// The revision of the definition. Objects that were written before it may lack a default.
    pub revision: u64,
    /// The fields that field selectors may name, as JSON paths.
    pub selectable_fields: Vec<String>,
    /// Whether the definition is being deleted, so that objects can no longer be created.
    pub terminating: bool,
    /// The schema of the objects. `None`: the definition has no usable schema, and objects are stored unchanged.
    pub schema: Option<Arc<Schema>>,
}

/// Where the subresource `scale` finds its values, as JSON paths such as `.spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted replica count.
    pub spec: String,
    /// The observed replica count.
    pub status: String,
    /// The label selector of the pods.
    pub selector: Option<String>,
}

/// A subresource, as discovery shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource<'a> {
    /// The name, such as `scale`.
    pub name: &'a str,
    /// The group of the body. Empty, with `version`: that of the resource.
    pub group: &'a str,
    /// The version of the body. Empty: that of the resource.
    pub version: &'a str,
    /// The kind of the body.
    pub kind: &'a str,
    /// The verbs that it supports.
    pub verbs: &'static [&'static str],
}

const STORED: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const COLLECTION: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Kind {
    /// Returns `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Returns where the objects are stored.
    pub fn resource(&self) -> Resource {
        self.storage.clone().unwrap_or_else(|| Resource::new(&self.group, &self.plural))
    }

    /// Returns whether a `CustomResourceDefinition` defines it.
    pub fn is_custom(&self) -> bool {
        self.custom().is_some()
    }

    /// Returns what its `CustomResourceDefinition` defines. `None`: it is built in.
    pub fn custom(&self) -> Option<&Custom> {
        match &self.origin {
            Origin::Custom(custom) => Some(custom),
            Origin::Builtin(_) => None,
        }
    }

    /// Returns what the server knows of a built-in kind. `None`: a `CustomResourceDefinition` defines it.
    pub fn builtin(&self) -> Option<&'static BuiltinKind> {
        match self.origin {
            Origin::Builtin(builtin) => Some(builtin),
            Origin::Custom(_) => None,
        }
    }

    /// Returns how lists and maps are merged where no schema of a custom resource decides.
    pub fn merge_rules(&self) -> &'static MergeRules {
        self.builtin().map_or(&MergeRules::SHARED, |builtin| &builtin.merge)
    }

    /// Returns whether it is this built-in kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        !self.is_custom() && self.group == group && self.kind == kind
    }

    /// Returns the verbs that it supports.
    pub fn verbs(&self) -> &'static [&'static str] {
        match (self.stored, self.delete_collection) {
            (false, _) => &["create"],
            (true, false) => STORED,
            (true, true) => COLLECTION,
        }
    }

    /// Returns the subresources, in the order of their names.
    pub fn subresources(&self) -> Vec<Subresource<'_>> {
        const WRITE: &[&str] = &["get", "patch", "update"];
        let own = self.builtin().map_or(&[][..], |builtin| builtin.subresources);
        let scale = Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: WRITE };
        let status = Subresource { name: "status", group: "", version: "", kind: &self.kind, verbs: WRITE };
        let scale = self.scale.is_some().then_some(scale);
        let status = self.status.then_some(status);
        own.iter().copied().chain(scale).chain(status).collect()
    }
}

/// All kinds that are served.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<(String, String, String), Arc<Kind>>,
}

impl Registry {
    /// Returns the built-in kinds, and those that these `CustomResourceDefinitions` add.
    pub fn new<'a>(definitions: impl Iterator<Item = &'a Value>) -> Self {
        let custom = definitions.flat_map(from_definition);
        let kinds = builtin::kinds().chain(custom).map(Arc::new);
        Self {
            kinds: kinds.map(|kind| ((kind.group.clone(), kind.version.clone(), kind.plural.clone()), kind)).collect(),
        }
    }

    /// Returns the kind that a path names.
    pub fn at(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Returns the kind that an object names.
    pub fn for_object(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.kinds.values().find(|known| known.kind == kind && known.api_version() == api_version)
    }

    /// Returns all kinds of one group and version, in the order of their plurals.
    pub fn in_version(&self, group: &str, version: &str) -> impl Iterator<Item = &Arc<Kind>> {
        let (group, version) = (group.to_owned(), version.to_owned());
        self.kinds.values().filter(move |kind| kind.group == group && kind.version == version)
    }

    /// Returns all kinds.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    /// Returns the groups, the core group first and then by name, each with its versions, the preferred one first.
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

/// Returns the rank of a version: stable over beta over alpha, then by number. Other names come last.
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
    fn versions_rank_as_on_the_real_server() {
        let mut versions = vec!["v1alpha1", "v2", "foo", "v1beta2", "v10", "v1beta1"];
        versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
        assert_eq!(versions, ["v10", "v2", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }

    #[test]
    fn definition_adds_its_served_versions() {
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
        assert_eq!(registry.for_object("example.com/v1", "Thing").unwrap().list_kind, "ThingList");
        let groups = registry.groups();
        assert!(groups.contains(&("example.com".to_owned(), vec!["v1".to_owned(), "v1alpha1".to_owned()])));
        assert_eq!(groups[0].0, "");
    }
}
