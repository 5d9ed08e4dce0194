//! Parses a request for a resource: its kind, object, user, body and options.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use serde_json::Value;

use super::Server;
use super::access::User;
use super::answer::Accept;
use crate::kinds::{Kind, Resource};
use crate::protobuf;
use crate::request::{Query, ResourcePath};
use crate::status::{FieldError, FieldErrorKind, Status};
use crate::store;

/// The longest body of a request, bytes.
const LIMIT: usize = 3 * 1024 * 1024;

/// Subresources that a kubelet streams, and what to do instead on a node that runs processes.
const INTERACTIVE: [(&str, &str); 3] = [
    ("exec", "run the command on this machine"),
    ("attach", "read the output with `kubectl logs -f`"),
    ("portforward", "connect to the pod's address: `kubectl get pods -o wide`"),
];

/// A request for an object or a collection.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) kind: Arc<Kind>,
    pub(super) path: ResourcePath,
    pub(super) query: Query,
    pub(super) user: User,
    pub(super) body: Bytes,
    /// The content type without its parameters, in lower case. Empty: not given.
    pub(super) content_type: String,
    /// The field manager if the query does not name one.
    pub(super) agent: String,
    pub(super) accept: Accept,
}

/// What to do about unknown fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    Ignore,
    Warn,
    Strict,
}

/// The options that writes have in common.
#[derive(Debug, Clone)]
pub(super) struct WriteOptions {
    pub(super) dry_run: bool,
    pub(super) manager: String,
    pub(super) validation: Validation,
    pub(super) force: Option<bool>,
}

impl Call {
    /// Reads a request. `None`: the path names a kind that is not served.
    pub(super) async fn read(
        server: &Server,
        parts: &Parts,
        path: ResourcePath,
        user: User,
        body: Body,
        accept: &Accept,
    ) -> Result<Option<Self>, Status> {
        let registry = server.registry();
        let known = registry.in_version(&path.group, &path.version).next().is_some();
        let Some(kind) = registry.at(&path.group, &path.version, &path.plural) else {
            return if known { Err(Status::no_such_path()) } else { Ok(None) };
        };
        let sub = &path.subresource;
        if kind.is("", "Pod")
            && let Some((_, instead)) = INTERACTIVE.iter().find(|(name, _)| name == sub)
        {
            let message = format!("{sub} is not supported: pods are processes of this machine; {instead}");
            return Err(Status::new(501, "NotImplemented", message));
        }
        let scoped = kind.namespaced || path.namespace.is_empty();
        if !scoped || !(sub.is_empty() || kind.subresources().iter().any(|known| known.name == sub)) {
            return Err(Status::no_such_path());
        }
        let collection = path.name.is_empty() && !matches!(parts.method, Method::GET | Method::HEAD);
        if kind.namespaced && path.namespace.is_empty() && (collection || !path.name.is_empty()) {
            // A single object needs a namespace in its path.
            return Err(if path.name.is_empty() { Status::method_not_allowed() } else { Status::no_such_path() });
        }
        let body = axum::body::to_bytes(body, LIMIT).await.map_err(|error| {
            let long = std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("limit"));
            if long {
                Status::too_large(format!("Request entity too large: limit is {LIMIT}"))
            } else {
                Status::bad_request(format!("failed to read the body of the request: {error}"))
            }
        })?;
        Ok(Some(Self {
            method: parts.method.clone(),
            kind: Arc::clone(kind),
            path,
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            user,
            body,
            content_type: media_type(&parts.headers),
            agent: agent(&parts.headers),
            accept: accept.clone(),
        }))
    }

    /// Creates a call that the server makes on its own behalf.
    pub(super) fn internal(kind: &Arc<Kind>, namespace: &str, name: &str) -> Self {
        let owned = |text: &str| text.to_owned();
        Self {
            method: Method::POST,
            kind: Arc::clone(kind),
            path: ResourcePath {
                group: kind.group.clone(),
                version: kind.version.clone(),
                namespace: owned(namespace),
                plural: kind.plural.clone(),
                name: owned(name),
                subresource: String::new(),
            },
            query: Query::default(),
            user: User::admin(),
            body: Bytes::new(),
            content_type: String::new(),
            agent: owned("kube-apiserver"),
            accept: Accept::default(),
        }
    }

    /// Returns the resource whose objects the call is about.
    pub(super) fn resource(&self) -> Resource {
        self.kind.resource()
    }

    /// Returns the key of the object in the store.
    pub(super) fn key(&self) -> String {
        store::key(&self.path.namespace, &self.path.name)
    }

    /// Creates the 404 for the object.
    pub(super) fn not_found(&self) -> Status {
        Status::not_found(&self.kind.group, &self.kind.plural, &self.path.name)
    }

    /// Creates the 409 for an object that has been modified.
    pub(super) fn modified(&self) -> Status {
        Status::modified(&self.kind.group, &self.kind.plural, &self.path.name)
    }

    /// Reads the options of a write. `options` is the kind that the real server names in errors.
    pub(super) fn write_options(&self, options: &str) -> Result<WriteOptions, Status> {
        let refuse = |error: FieldError| Status::invalid("meta.k8s.io", options, "", &[error]);
        let dry_run = self.query.all("dryRun");
        if dry_run.iter().any(|value| value != "All") {
            return Err(refuse(FieldError::not_supported("dryRun", Value::from(dry_run.to_vec()), &["All"])));
        }
        let validation = match self.query.get("fieldValidation") {
            "Ignore" => Validation::Ignore,
            "" | "Warn" => Validation::Warn,
            "Strict" => Validation::Strict,
            other => {
                let supported = &["", "Ignore", "Strict", "Warn"];
                return Err(refuse(FieldError::not_supported("fieldValidation", other, supported)));
            }
        };
        let manager = self.query.get("fieldManager");
        if manager.len() > 128 {
            let kind = FieldErrorKind::TooLong;
            let error = FieldError::new(kind, "fieldManager", None, "may not be more than 128 bytes");
            return Err(refuse(error));
        }
        let manager = if manager.is_empty() { self.agent.clone() } else { manager.to_owned() };
        let force = (!self.query.get("force").is_empty()).then(|| self.query.flag("force"));
        Ok(WriteOptions { dry_run: !dry_run.is_empty(), manager, validation, force })
    }

    /// Returns the object in the body. It must be of the call's kind; if it names none, the kind is filled in.
    pub(super) fn object(&self) -> Result<Value, Status> {
        self.object_of(&self.kind.api_version(), &self.kind.kind)
    }

    /// Returns the object in the body, which must be of this version and kind.
    pub(super) fn object_of(&self, api_version: &str, kind: &str) -> Result<Value, Status> {
        let mut object = decode(&self.content_type, &self.body, kind)?;
        let Some(map) = object.as_object_mut() else {
            let message = format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse \
                 error: json: cannot unmarshal into an object"
            );
            return Err(Status::bad_request(message));
        };
        let given = |key: &str, map: &serde_json::Map<String, Value>| {
            map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (version_given, kind_given) = (given("apiVersion", map), given("kind", map));
        let version_differs = !version_given.is_empty() && version_given != api_version;
        let kind_differs = !kind_given.is_empty() && kind_given != kind;
        // For a custom resource, a wrong kind is a validation error like that of other fields.
        if kind_differs && !version_differs && self.kind.is_custom() && kind == self.kind.kind {
            map.insert("apiVersion".to_owned(), api_version.into());
            return Ok(object);
        }
        if version_differs || kind_differs {
            return Err(Status::bad_request(self.wrong_kind(&version_given, &kind_given, api_version, kind)));
        }
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("kind".to_owned(), kind.into());
        Ok(object)
    }

    fn wrong_kind(&self, version_given: &str, kind_given: &str, api_version: &str, kind: &str) -> String {
        if self.kind.is_custom() {
            let (group, version) = version_given.rsplit_once('/').unwrap_or(("", version_given));
            return format!(
                "the object provided is unrecognized (must be of type {kind}): the API version in the data \
                 ({version_given}) does not match the expected API version ({api_version}): {group}/{version}, Kind={kind_given}"
            );
        }
        format!(
            "{kind_given} in version {version_given:?} cannot be handled as a {kind}: no kind {kind_given:?} is \
             registered for version {version_given:?} in scheme \"pkg/runtime/scheme.go:110\""
        )
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns the program at the start of the user agent: the field manager of clients that do not name one.
fn agent(headers: &HeaderMap) -> String {
    let value = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name: String = value.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let end = name.char_indices().nth(128).map_or(name.len(), |(at, _)| at);
    let name = name.get(..end).unwrap_or_default().trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

/// Parses a body in JSON, YAML or protobuf.
pub(super) fn decode(content_type: &str, body: &[u8], kind: &str) -> Result<Value, Status> {
    let malformed = |error: String| {
        let message =
            format!("the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; {error}");
        Status::bad_request(message)
    };
    match content_type {
        "" | "application/json" => {
            serde_json::from_slice(body).map_err(|error| malformed(format!("json parse error: {error}")))
        }
        "application/yaml" => yaml(body).map_err(|error| malformed(format!("yaml parse error: {error}"))),
        "application/vnd.kubernetes.protobuf" => protobuf::decode(body).map_err(malformed),
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// Parses YAML. The parser limits the expansion of aliases, so that a small body cannot use much memory.
pub(super) fn yaml(body: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}
