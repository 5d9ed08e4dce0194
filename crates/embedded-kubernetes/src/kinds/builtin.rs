//! The built-in kinds, in the form in which all kinds are served.

use super::{Kind, Origin, Resource, ScalePaths};
use crate::builtin::{ALL, BuiltinKind, Generation, Storage};

pub(super) fn kinds() -> impl Iterator<Item = Kind> {
    ALL.iter().map(|builtin| kind(builtin))
}

fn kind(builtin: &'static BuiltinKind) -> Kind {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let api = &builtin.api;
    Kind {
        group: api.group.to_owned(),
        version: api.version.to_owned(),
        kind: api.kind.to_owned(),
        list_kind: format!("{}List", api.kind),
        plural: api.plural.to_owned(),
        singular: api.kind.to_ascii_lowercase(),
        short_names: owned(builtin.short_names),
        categories: owned(builtin.categories),
        namespaced: api.namespaced,
        stored: !matches!(builtin.storage, Storage::Nowhere),
        delete_collection: builtin.delete_collection,
        status: builtin.status,
        scale: builtin.scale.then(|| ScalePaths {
            spec: ".spec.replicas".to_owned(),
            status: ".status.replicas".to_owned(),
            selector: Some(".spec.selector".to_owned()),
        }),
        unconditional_update: builtin.unconditional_update,
        create_on_update: builtin.create_on_update,
        generation: builtin.generation != Generation::NotCounted,
        storage: builtin.shared_storage().map(|shared| Resource::new(shared.group, shared.plural)),
        origin: Origin::Builtin(builtin),
    }
}
