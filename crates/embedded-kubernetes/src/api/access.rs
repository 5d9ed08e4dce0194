//! Who may do what: bearer tokens, roles and bindings.

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

/// Somebody who sends requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// For example `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// The groups that the user is in.
    pub groups: Vec<String>,
}

impl User {
    /// Somebody who may do everything.
    pub fn admin() -> Self {
        Self { name: "admin".to_owned(), groups: vec![MASTERS.to_owned(), "system:authenticated".to_owned()] }
    }

    /// A service account.
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

/// Something that somebody wants to do.
#[derive(Debug, Default)]
struct Deed<'a> {
    verb: &'a str,
    group: &'a str,
    /// With the subresource, `pods/status`.
    resource: String,
    namespace: &'a str,
    name: &'a str,
}

/// Who sends the request. A token that nobody has is 401; no token is anonymous.
pub(super) fn authenticate(server: &Server, headers: &HeaderMap) -> Result<User, Status> {
    let tokens = server.0.tokens.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    if tokens.is_empty() {
        return Ok(User::admin());
    }
    let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(User::anonymous()) };
    let given = given.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    let given = given.ok_or_else(Status::unauthorized)?;
    let known = tokens.iter().find(|(token, _)| same(token, given));
    known.map(|(_, user)| user.clone()).ok_or_else(Status::unauthorized)
}

/// Compares in a time that does not tell where the difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// The paths that are no resources: health for everybody, the rest for who has come with a token.
pub(super) fn may_see_path(user: &User, path: &Path, text: &str) -> Result<(), Status> {
    let open = ["/healthz", "/livez", "/readyz", "/version"].iter().any(|open| text.starts_with(open));
    if matches!(path, Path::Resource(_)) || open || user.groups.iter().any(|group| group != "system:unauthenticated") {
        return Ok(());
    }
    let message = format!("forbidden: User {:?} cannot get path {text:?}", user.name);
    Err(Status::new(403, "Forbidden", message).with(Details::default()))
}

/// Refuses what no role allows.
pub(super) fn authorize(server: &Server, call: &Call) -> Result<(), Status> {
    let path = &call.path;
    let verb = verb(call);
    let resource = match path.subresource.as_str() {
        "" => path.plural.clone(),
        sub => format!("{}/{sub}", path.plural),
    };
    // A namespace is checked as something in itself.
    let namespace = if call.kind.is("", "Namespace") { &path.name } else { &path.namespace };
    let deed = Deed { verb, group: &path.group, resource, namespace, name: &path.name };
    if may(server, &call.user, &deed) || asks_about_itself(call) {
        return Ok(());
    }
    let place = if path.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", path.namespace)
    };
    let why = format!(
        "User {:?} cannot {verb} resource {:?} in API group {:?} {place}",
        call.user.name, deed.resource, path.group
    );
    Err(Status::forbidden(&path.group, &path.plural, &path.name, why))
}

fn asks_about_itself(call: &Call) -> bool {
    call.kind.kind == "SelfSubjectAccessReview" && call.user.groups.iter().any(|group| group == "system:authenticated")
}

/// What a request does, in the words of roles.
fn verb(call: &Call) -> &'static str {
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

fn may(server: &Server, user: &User, deed: &Deed<'_>) -> bool {
    if user.groups.iter().any(|group| group == MASTERS) {
        return true;
    }
    let all = |plural: &str, namespace: Option<&str>| {
        let resource = Resource::new("rbac.authorization.k8s.io", plural);
        server.store().list(&resource, namespace, None, None).map(|page| page.objects).unwrap_or_default()
    };
    let allowed = |binding: &Value| {
        let subjects = binding.get("subjects").and_then(Value::as_array);
        subjects.into_iter().flatten().any(|subject| is(user, subject, meta::namespace(binding)))
            && rules(server, binding).iter().any(|rule| allows(rule, deed))
    };
    all("clusterrolebindings", None).iter().any(|(_, binding)| allowed(&binding.value))
        || (!deed.namespace.is_empty()
            && all("rolebindings", Some(deed.namespace)).iter().any(|(_, binding)| allowed(&binding.value)))
}

fn is(user: &User, subject: &Value, binding_namespace: &str) -> bool {
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

fn rules(server: &Server, binding: &Value) -> Vec<Value> {
    let (plural, namespace) = match meta::text(binding, "/roleRef/kind") {
        "Role" => ("roles", meta::namespace(binding)),
        _ => ("clusterroles", ""),
    };
    let resource = Resource::new("rbac.authorization.k8s.io", plural);
    let key = crate::store::key(namespace, meta::text(binding, "/roleRef/name"));
    let role = server.store().get(&resource, &key);
    role.and_then(|role| role.value.get("rules")?.as_array().cloned()).unwrap_or_default()
}

fn allows(rule: &Value, deed: &Deed<'_>) -> bool {
    let has = |list: &str, wanted: &str| meta::texts(rule, list).iter().any(|entry| entry == "*" || entry == wanted);
    let sub = deed.resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    let names = meta::texts(rule, "/resourceNames");
    has("/verbs", deed.verb)
        && has("/apiGroups", deed.group)
        && (has("/resources", &deed.resource) || sub.is_some_and(|sub| has("/resources", &sub)))
        && (names.is_empty() || (!deed.name.is_empty() && names.iter().any(|name| name == deed.name)))
}

/// POST of a `SelfSubjectAccessReview`: whether the one who asks may do something.
pub(super) fn review(server: &Server, call: &Call, mut review: Value) -> Result<Answer, Status> {
    super::prepare::shape(&call.kind, &mut review, super::call::Validation::Ignore)?;
    let allowed = match review.pointer("/spec/resourceAttributes") {
        Some(attributes) => {
            let text = |key: &str| meta::text(attributes, key);
            let sub = text("/subresource");
            let resource = text("/resource");
            let resource = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
            let (verb, group) = (text("/verb"), text("/group"));
            may(server, &call.user, &Deed { verb, group, resource, namespace: text("/namespace"), name: text("/name") })
        }
        None => call.user.groups.iter().any(|group| group == MASTERS),
    };
    let status = if allowed { json!({"allowed": true}) } else { json!({"allowed": false}) };
    meta::as_map(&mut review).insert("status".to_owned(), status);
    Ok(Answer::value(review).with_code(201))
}
