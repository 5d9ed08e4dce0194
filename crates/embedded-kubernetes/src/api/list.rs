//! Lists objects: with selectors, in pages of one snapshot, and at a given version.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Form};
use super::call::Call;
use super::tables::Tables;
use super::{Server, view};
use crate::meta;
use crate::selector::Selector;
use crate::status::{FieldError, Status};
use crate::store::{Object, Page};

/// How long a list waits for a version that the server has not reached yet.
const VERSION_WAIT: Duration = Duration::from_secs(3);

/// The start of the next page: the revision of the snapshot, and the last key that was sent.
struct ContinueToken {
    revision: u64,
    after: String,
}

impl ContinueToken {
    /// Encodes the token as opaque text that is valid in a URL: hexadecimal, which is simple and sufficient.
    fn encode(&self) -> String {
        let plain = format!("{}:{}", self.revision, self.after);
        plain.bytes().fold(String::with_capacity(plain.len() * 2), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            text
        })
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let invalid = || Status::bad_request("invalid continue token: continue key is not valid");
        let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
        let bytes = digits.ok_or_else(invalid)?;
        let bytes: Vec<u8> = bytes.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        let plain = String::from_utf8(bytes).map_err(|_| invalid())?;
        let (revision, after) = plain.split_once(':').ok_or_else(invalid)?;
        Ok(Self { revision: revision.parse().map_err(|_| invalid())?, after: after.to_owned() })
    }
}

/// Returns the version in the query. `None`: not given. Anything but a number is an error.
fn version(call: &Call) -> Result<Option<u64>, Status> {
    let given = call.query.get("resourceVersion");
    if given.is_empty() {
        return Ok(None);
    }
    given.parse().map(Some).map_err(|_| {
        let message = format!(
            "invalid resource version: resourceVersion: Invalid value: {given:?}: strconv.ParseUint: parsing {given:?}: \
             invalid syntax"
        );
        Status::bad_request(message)
    })
}

/// Checks the version in the query of a read of one object. It has no other effect, because reads are always current.
pub(super) fn check_version(_server: &Server, call: &Call) -> Result<(), Status> {
    version(call).map(|_| ())
}

/// Returns the selector in the query.
pub(super) fn selector(call: &Call) -> Result<Selector, Status> {
    let mut selector = Selector::parse(&call.kind, call.query.get("labelSelector"), call.query.get("fieldSelector"))?;
    if !call.path.name.is_empty() {
        selector.add_name(&call.path.name);
    }
    Ok(selector)
}

/// Checks the combinations of options that the real server refuses.
pub(super) fn check_options(call: &Call, watch: bool) -> Result<(), Status> {
    let refuse = |field: &str, why: &str| {
        Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[FieldError::forbidden(field, why)]))
    };
    let (version, matching) = (call.query.get("resourceVersion"), call.query.get("resourceVersionMatch"));
    let initial = !call.query.get("sendInitialEvents").is_empty();
    if initial && !watch {
        return refuse("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if initial && matching != "NotOlderThan" {
        return refuse(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if matching.is_empty() || initial {
        return Ok(());
    }
    if watch {
        return refuse(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
    }
    if !call.query.get("continue").is_empty() {
        return refuse("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
    }
    if version.is_empty() {
        return refuse("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
    }
    match matching {
        "Exact" if version == "0" => {
            refuse("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        "Exact" | "NotOlderThan" => Ok(()),
        other => {
            let supported = &["Exact", "NotOlderThan", ""];
            let error = FieldError::not_supported("resourceVersionMatch", other, supported);
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
        }
    }
}

/// GET of a collection.
pub(super) async fn list(server: &Server, call: &Call) -> Result<Answer, Status> {
    check_options(call, false)?;
    let selector = selector(call)?;
    let form = call.accept.form()?;
    let limit = limit(call)?;
    let token = match call.query.get("continue") {
        "" => None,
        text => Some(ContinueToken::decode(text)?),
    };
    let version = version(call)?;
    if token.is_some() && version.is_some_and(|version| version != 0) {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    if let Some(version) = version {
        wait_for_version(server, version).await?;
    }
    let exact = version.filter(|_| call.query.get("resourceVersionMatch") == "Exact");
    let page = page(server, call, token.as_ref(), exact)?;
    let mut objects: Vec<(String, Arc<Object>)> = page.objects;
    objects.retain(|(_, object)| selector.selects(&object.value));
    let rest = if limit > 0 { objects.len().saturating_sub(limit) } else { 0 };
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if rest > 0 {
        objects.truncate(limit);
        let after = objects.last().map(|(key, _)| key.clone()).unwrap_or_default();
        let map = meta::as_map(&mut metadata);
        map.insert("continue".to_owned(), ContinueToken { revision: page.revision, after }.encode().into());
        if selector.is_empty() {
            map.insert("remainingItemCount".to_owned(), rest.into());
        }
    }
    if form == Form::Table {
        let objects: Vec<&Value> = objects.iter().map(|(_, object)| &object.value).collect();
        let tables = Tables::new(call, server.clock())?;
        return Ok(Answer::value(tables.table_of(&call.kind, &objects, &metadata, true)));
    }
    Ok(Answer::json(list_json(call, form, &metadata, &objects)))
}

fn limit(call: &Call) -> Result<usize, Status> {
    let given = call.query.get("limit");
    if given.is_empty() {
        return Ok(0);
    }
    let number: i64 = given
        .parse()
        .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {given:?}: invalid syntax")))?;
    Ok(usize::try_from(number).unwrap_or(0))
}

/// Returns the objects of the collection at the token's revision, at an exact one, or at the current one.
fn page(server: &Server, call: &Call, token: Option<&ContinueToken>, exact: Option<u64>) -> Result<Page, Status> {
    let namespace = Some(call.path.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let at = token.map(|token| token.revision).filter(|revision| *revision > 0).or(exact);
    let after = token.map(|token| token.after.as_str());
    server.store().list(&call.resource(), namespace, at, after).map_err(|_| match token {
        // Revision 0 stands for the current state: the list continues, but no longer in one snapshot.
        Some(token) => Status::expired_continue(ContinueToken { revision: 0, after: token.after.clone() }.encode()),
        None => Status::expired("The resourceVersion for the provided list is too old."),
    })
}

/// Waits for a version that the server has not reached yet, at most 3 s.
pub(super) async fn wait_for_version(server: &Server, version: u64) -> Result<(), Status> {
    let current = server.store().revision();
    if version <= current {
        return Ok(());
    }
    tokio::time::sleep(VERSION_WAIT).await;
    let current = server.store().revision();
    if version <= current { Ok(()) } else { Err(Status::too_large_resource_version(version, current)) }
}

/// Returns the objects that a request selects.
pub(super) fn select_objects(server: &Server, call: &Call) -> Result<Vec<Arc<Object>>, Status> {
    let selector = selector(call)?;
    let page = page(server, call, None, None)?;
    let objects = page.objects.into_iter().map(|(_, object)| object);
    Ok(objects.filter(|object| selector.selects(&object.value)).collect())
}

/// Writes a list as JSON from the JSON text that each object already has.
fn list_json(call: &Call, form: Form, metadata: &Value, objects: &[(String, Arc<Object>)]) -> Bytes {
    let (kind, version) = match form {
        Form::Metadata => ("PartialObjectMetadataList", "meta.k8s.io/v1".to_owned()),
        _ => (call.kind.list_kind.as_str(), call.kind.api_version()),
    };
    let mut text = Vec::with_capacity(128 + objects.len() * 1024);
    let head = format!("{{\"kind\":{kind:?},\"apiVersion\":{version:?},\"metadata\":{metadata},\"items\":[");
    text.extend_from_slice(head.as_bytes());
    for (at, (_, object)) in objects.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&view::json(&call.kind, object, form));
    }
    text.extend_from_slice(b"]}");
    Bytes::from(text)
}
