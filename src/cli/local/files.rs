//! The objects that are applied at the start: the resource definitions and the objects of the files given with `-f`.

use std::path::PathBuf;

use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::error::DiscoveryError;
use kube::{Api, Client};
use serde_json::Value;

use super::Failure;
use crate::cli::jobfile::{self, Document};

/// The field manager of applied objects.
const MANAGER: &str = "sluice-local";

/// An object and the file it comes from.
#[derive(Debug)]
pub(super) struct Object {
    file: PathBuf,
    document: Document,
}

/// Reads files of objects and prints every mistake in them. Returns `None` if there is one.
pub(super) fn read(files: &[PathBuf]) -> Option<Vec<Object>> {
    let mut objects = Some(Vec::new());
    for file in files {
        match jobfile::documents(file) {
            Ok(documents) => {
                if let Some(objects) = &mut objects {
                    objects.extend(documents.into_iter().map(|document| Object { file: file.clone(), document }));
                }
            }
            Err(error) => {
                error.print();
                objects = None;
            }
        }
    }
    // Namespaces and definitions come first because other objects need them; otherwise the order of the files is kept.
    if let Some(objects) = &mut objects {
        objects.sort_by_key(|object| !matches!(object.text("/kind"), "Namespace" | "CustomResourceDefinition"));
    }
    objects
}

impl Object {
    fn text(&self, pointer: &str) -> &str {
        self.document.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Installs the resource definitions of this version.
pub(super) async fn install(client: &Client) -> Result<(), Failure> {
    for definition in sluice_api::crds() {
        let object = serde_json::to_value(&definition)?;
        put(client, &object).await.map_err(|error| format!("failed to install the resource definitions: {error}"))?;
    }
    Ok(())
}

/// Applies objects, and prints the errors of those that fail. Returns whether all succeeded.
pub(super) async fn apply(client: &Client, objects: &[Object]) -> bool {
    let mut applied_all = true;
    for object in objects {
        if let Err(error) = put(client, &object.document.object).await {
            applied_all = false;
            let (line, kind, name) = (object.document.line, object.text("/kind"), object.text("/metadata/name"));
            for why in reasons(&error) {
                eprintln!("sluice: {}:{line}: failed to apply {kind} {name}: {why}", object.file.display());
            }
        }
    }
    applied_all
}

/// Returns the server's causes of an error, one text for each.
fn reasons(error: &kube::Error) -> Vec<String> {
    let status = match error {
        kube::Error::Api(status) => status,
        kube::Error::Discovery(DiscoveryError::MissingKind(_)) => {
            return vec![
                "the server does not know this kind; also pass its CustomResourceDefinition with -f".to_owned(),
            ];
        }
        _ => return vec![error.to_string()],
    };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    if causes.is_empty() {
        return vec![status.message.clone()];
    }
    causes
        .iter()
        .map(
            |cause| {
                if cause.field.is_empty() {
                    cause.message.clone()
                } else {
                    format!("{}: {}", cause.field, cause.message)
                }
            },
        )
        .collect()
}

async fn put(client: &Client, object: &Value) -> Result<(), kube::Error> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").rsplit_once('/').unwrap_or_else(|| ("", text("/apiVersion")));
    let kind = GroupVersionKind::gvk(group, version, text("/kind"));
    let (resource, capabilities) = pinned_kind(client, &kind).await.map_err(|error| match error {
        // For an unknown API group a server returns a plain 404.
        kube::Error::Api(status) if status.code == 404 => {
            kube::Error::Discovery(DiscoveryError::MissingKind(status.message))
        }
        error => error,
    })?;
    let namespace = Some(text("/metadata/namespace")).filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let mut params = PatchParams::apply(MANAGER).force();
    params.field_validation = Some(ValidationDirective::Strict);
    api.patch(text("/metadata/name"), &params, &Patch::Apply(object)).await.map(drop)
}
