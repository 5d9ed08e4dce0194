//! Authentication and authorization: bearer tokens, roles and bindings.

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::Server;
use super::answer::Answer;
use super::call::Call;
use crate::kinds::Resource;
use crate::meta;
use crate::request::Path;
use crate::status::{Details, Status};

const MASTERS: &str = "system:masters";

/// The identity of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name, for example `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// The groups that the user is in.
    pub groups: Vec<String>,
}

impl User {
    /// Returns a user who may do everything.
    pub fn admin() -> Self {
        Self { name: "admin".to_owned(), groups: vec![MASTERS.to_owned(), "system:authenticated".to_owned()] }
    }

    /// Returns the user of a service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }

    fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }
}

/// An operation that a role must allow.
#[derive(Debug, Default)]
struct Operation<'a> {
    verb: &'a str,
    group: &'a str,
    /// The resource with its subresource, such as `pods/status`.
    resource: String,
    namespace: &'a str,
    name: &'a str,
}

/// Returns the user who sends the request. An unknown token is a 401; a request without a token is anonymous.
pub(super) fn authenticate(server: &Server, headers: &HeaderMap) -> Result<User, Status> {
    let tokens = server.0.tokens.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    if tokens.is_empty() {
        return Ok(User::admin());
    }
    let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(User::anonymous()) };
    let given = given.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    let given = given.ok_or_else(Status::unauthorized)?;
    let known = tokens.iter().find(|(token, _)| equal_in_constant_time(token, given));
    known.map(|(_, user)| user.clone()).ok_or_else(Status::unauthorized)
}

/// Compares two texts in a time that does not depend on where they differ.
fn equal_in_constant_time(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// Authorizes the paths that are not resources: health and version for all clients, the rest for authenticated ones.
pub(super) fn authorize_path(user: &User, path: &Path, text: &str) -> Result<(), Status> {
    let open = ["/healthz", "/livez", "/readyz", "/version"].iter().any(|open| text.starts_with(open));
    if matches!(path, Path::Resource(_)) || open || user.groups.iter().any(|group| group != "system:unauthenticated") {
        return Ok(());
    }
    let message = format!("forbidden: User {:?} cannot get path {text:?}", user.name);
    Err(Status::new(403, "Forbidden", message).with(Details::default()))
}

/// Refuses a request that no role allows.
pub(super) fn authorize(server: &Server, call: &Call) -> Result<(), Status> {
    let path = &call.path;
    let verb = role_verb(call);
    let resource = match path.subresource.as_str() {
        "" => path.plural.clone(),
        sub => format!("{}/{sub}", path.plural),
    };
    // Operations on a namespace are authorized within that namespace.
    let namespace = if call.kind.is("", "Namespace") { &path.name } else { &path.namespace };
    let operation = Operation { verb, group: &path.group, resource, namespace, name: &path.name };
    if is_allowed(server, &call.user, &operation) || reviews_own_access(call) {
        return Ok(());
    }
    let scope = if path.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", path.namespace)
    };
    let why = format!(
        "User {:?} cannot {verb} resource {:?} in API group {:?} {scope}",
        call.user.name, operation.resource, path.group
    );
    Err(Status::forbidden(&path.group, &path.plural, &path.name, why))
}

fn reviews_own_access(call: &Call) -> bool {
    call.kind.kind == "SelfSubjectAccessReview" && call.user.groups.iter().any(|group| group == "system:authenticated")
}

/// Returns the verb that roles use for the request.
fn role_verb(call: &Call) -> &'static str {
    let one = !call.path.name.is_empty();
    match call.method.as_str() {
        "GET" | "HEAD" if call.query.flag("watch") => "watch",
        "GET" | "HEAD" if one => "get",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if one => "delete",
        _ => "deletecollection",
    }
}

fn is_allowed(server: &Server, user: &User, operation: &Operation<'_>) -> bool {
    if user.groups.iter().any(|group| group == MASTERS) {
        return true;
    }
    let all = |plural: &str, namespace: Option<&str>| {
        let resource = Resource::new("rbac.authorization.k8s.io", plural);
        server.store().list(&resource, namespace, None, None).map(|page| page.objects).unwrap_or_default()
    };
    let allowed = |binding: &Value| {
        let subjects = binding.get("subjects").and_then(Value::as_array);
        subjects.into_iter().flatten().any(|subject| matches_subject(user, subject, meta::namespace(binding)))
            && role_rules(server, binding).iter().any(|rule| allows(rule, operation))
    };
    all("clusterrolebindings", None).iter().any(|(_, binding)| allowed(&binding.value))
        || (!operation.namespace.is_empty()
            && all("rolebindings", Some(operation.namespace)).iter().any(|(_, binding)| allowed(&binding.value)))
}

fn matches_subject(user: &User, subject: &Value, binding_namespace: &str) -> bool {
    let name = meta::text(subject, "/name");
    match meta::text(subject, "/kind") {
        "User" => user.name == name,
        "Group" => user.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let namespace = meta::text(subject, "/namespace");
            let namespace = if namespace.is_empty() { binding_namespace } else { namespace };
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn role_rules(server: &Server, binding: &Value) -> Vec<Value> {
    let (plural, namespace) = match meta::text(binding, "/roleRef/kind") {
        "Role" => ("roles", meta::namespace(binding)),
        _ => ("clusterroles", ""),
    };
    let resource = Resource::new("rbac.authorization.k8s.io", plural);
    let key = crate::store::key(namespace, meta::text(binding, "/roleRef/name"));
    let role = server.store().get(&resource, &key);
    role.and_then(|role| role.value.get("rules")?.as_array().cloned()).unwrap_or_default()
}

fn allows(rule: &Value, operation: &Operation<'_>) -> bool {
    let has = |list: &str, wanted: &str| meta::texts(rule, list).iter().any(|entry| entry == "*" || entry == wanted);
    let sub = operation.resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    let names = meta::texts(rule, "/resourceNames");
    has("/verbs", operation.verb)
        && has("/apiGroups", operation.group)
        && (has("/resources", &operation.resource) || sub.is_some_and(|sub| has("/resources", &sub)))
        && (names.is_empty() || (!operation.name.is_empty() && names.iter().any(|name| name == operation.name)))
}

/// POST of a `SelfSubjectAccessReview`: whether the user who sends it may perform an operation.
pub(super) fn review(server: &Server, call: &Call, mut review: Value) -> Result<Answer, Status> {
    super::prepare::shape(&call.kind, &mut review, super::call::Validation::Ignore)?;
    let allowed = match review.pointer("/spec/resourceAttributes") {
        Some(attributes) => {
            let text = |key: &str| meta::text(attributes, key);
            let sub = text("/subresource");
            let resource = text("/resource");
            let resource = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
            let (verb, group) = (text("/verb"), text("/group"));
            let (namespace, name) = (text("/namespace"), text("/name"));
            is_allowed(server, &call.user, &Operation { verb, group, resource, namespace, name })
        }
        None => call.user.groups.iter().any(|group| group == MASTERS),
    };
    let status = if allowed { json!({"allowed": true}) } else { json!({"allowed": false}) };
    meta::as_map(&mut review).insert("status".to_owned(), status);
    Ok(Answer::value(review).with_code(201))
}
