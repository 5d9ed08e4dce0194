//! Discovery: the server's groups, versions and kinds, its own version, and its health.

use axum::http::request::Parts;
use serde_json::{Value, json};

use super::answer::{Accept, Answer};
use super::{Server, VERSION, openapi};
use crate::kinds::{Kind, Registry, Subresource};
use crate::request::{Path, Query};
use crate::status::Status;

/// Answers a request that is not about an object.
pub(super) fn answer(server: &Server, path: &Path, parts: &Parts, accept: &Accept) -> Result<Answer, Status> {
    if !matches!(parts.method.as_str(), "GET" | "HEAD") {
        return Err(Status::method_not_allowed());
    }
    let registry = server.registry();
    Ok(match (path, accept.aggregated) {
        (Path::CoreVersions, Some(version)) => aggregated(&registry, version, true),
        (Path::Groups, Some(version)) => aggregated(&registry, version, false),
        (Path::CoreVersions, None) => Answer::value(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}],
        })),
        (Path::Groups, None) => {
            let groups = registry.groups().into_iter().filter(|(name, _)| !name.is_empty());
            let groups: Vec<Value> = groups.map(|(name, versions)| group(&name, &versions)).collect();
            Answer::value(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        (Path::Group(name), _) => match registry.groups().into_iter().find(|(known, _)| known == name) {
            Some((name, versions)) => {
                let mut value = group(&name, &versions);
                value["kind"] = "APIGroup".into();
                value["apiVersion"] = "v1".into();
                Answer::value(value)
            }
            None => Answer::no_such_path(),
        },
        (Path::Version(group, version), _) => resources(&registry, group, version),
        (Path::Other(text), _) => other(server, text, parts),
        (Path::Resource(_), _) => Answer::no_such_path(),
    })
}

fn other(server: &Server, path: &str, parts: &Parts) -> Answer {
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    match path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => {
            if query.flag("verbose") {
                Answer::text(format!("[+]ping ok\n{} check passed\n", path.trim_start_matches('/')))
            } else {
                Answer::text("ok")
            }
        }
        "/version" => Answer::value(json!({
            "major": VERSION.0, "minor": VERSION.1, "gitVersion": format!("v{}.{}.0-embedded", VERSION.0, VERSION.1),
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
            "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        })),
        // Version 2 of OpenAPI is an empty document, in the only encoding that clients ask for. They then use version
        // 3.
        "/openapi/v2" => Answer::text("").with_type("application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
        path if path.starts_with("/openapi/v3") => openapi::answer(&server.registry(), path),
        "" => Answer::value(
            json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}),
        ),
        _ => Answer::no_such_path(),
    }
}

fn group(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn resources(registry: &Registry, group: &str, version: &str) -> Answer {
    let mut list = Vec::new();
    for kind in registry.in_version(group, version) {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": kind.verbs(),
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = kind.short_names.clone().into();
        }
        if !kind.categories.is_empty() {
            entry["categories"] = kind.categories.clone().into();
        }
        list.push(entry);
        for Subresource { name, group, version, kind: name_of_kind, verbs } in kind.subresources() {
            let mut entry = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": name_of_kind, "verbs": verbs,
            });
            if !version.is_empty() {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            list.push(entry);
        }
    }
    if list.is_empty() {
        return Answer::no_such_path();
    }
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Answer::value(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list,
    }))
}

/// Returns one document with all named groups, or with the core group.
fn aggregated(registry: &Registry, version: &str, core: bool) -> Answer {
    let groups = registry.groups().into_iter().filter(|(name, _)| name.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let kinds = registry.in_version(&name, version).map(|kind| aggregated_kind(kind));
                    json!({"version": version, "freshness": "Current", "resources": kinds.collect::<Vec<_>>()})
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    Answer::value(json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items,
    }))
    .with_type(format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"))
}

fn aggregated_kind(kind: &Kind) -> Value {
    let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
    let mut value = json!({
        "resource": kind.plural, "scope": scope, "singularResource": kind.singular, "verbs": kind.verbs(),
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    });
    if !kind.short_names.is_empty() {
        value["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        value["categories"] = kind.categories.clone().into();
    }
    let subresources: Vec<Value> = kind
        .subresources()
        .into_iter()
        .map(|sub| {
            let own = sub.version.is_empty();
            let (group, version) = if own { (&*kind.group, &*kind.version) } else { (sub.group, sub.version) };
            json!({
                "subresource": sub.name, "verbs": sub.verbs,
                "responseKind": {"group": group, "version": version, "kind": sub.kind},
            })
        })
        .collect();
    if !subresources.is_empty() {
        value["subresources"] = subresources.into();
    }
    value
}
