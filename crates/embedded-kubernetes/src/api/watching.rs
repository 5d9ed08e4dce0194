//! Watches: stream the changes of a collection, one JSON object per line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Answer, Form};
use super::call::Call;
use super::tables::Tables;
use super::{Server, list, view};
use crate::kinds::Kind;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Change, Event, Expired, Object, Watch};

/// Duration of a watch if the client sets no timeout. The real server chooses a random time between 30 and 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(45);
/// Interval between bookmarks, which tell a client the revision that it has received so far.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);

/// GET of a collection with `watch`.
pub(super) fn watch(server: &Server, call: &Call) -> Result<Answer, Status> {
    list::check_options(call, true)?;
    let selector = list::selector(call)?;
    let form = call.accept.form()?;
    let given = call.query.get("resourceVersion");
    let version: u64 = match given {
        "" => 0,
        text => text.parse().map_err(|_| {
            let why = "invalid syntax";
            let message =
                format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}");
            Status::new(500, "", message)
        })?,
    };
    let seconds = call.query.get("timeoutSeconds").parse().ok().filter(|seconds: &u64| *seconds > 0);
    let now = server.clock().monotonic();
    let streaming = call.query.flag("sendInitialEvents");
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let mut pending = VecDeque::new();
    let writer = EventWriter {
        kind: Arc::clone(&call.kind),
        form,
        selector,
        namespace: call.path.namespace.clone(),
        tables: if form == Form::Table { Some(Tables::new(call, server.clock())?) } else { None },
        first: std::cell::Cell::new(true),
    };
    // A watch without a version, or with version 0, begins with the existing objects.
    let initial = streaming || (version == 0 && call.query.get("sendInitialEvents") != "false");
    let position =
        if initial { write_existing(server, call, &writer, bookmarks && streaming, &mut pending)? } else { version };
    let position = if !initial && version == 0 { server.store().revision() } else { position };
    let watch = server.store().watch(&call.resource(), Some(position));
    let watch = watch.inspect_err(|expired| {
        pending.push_back(expired_line(*expired));
    });
    let stream_state = WatchStream {
        watch: watch.ok(),
        writer,
        pending,
        until: now + seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        bookmark: bookmarks.then(|| now + BOOKMARK_INTERVAL),
    };
    let stream = stream::unfold(stream_state, |mut state| async move {
        state.next().await.map(|chunk| (Ok::<_, std::convert::Infallible>(chunk), state))
    });
    Ok(Answer::stream(Body::from_stream(stream)))
}

/// Writes the existing objects as lines, and returns the revision that they show.
fn write_existing(
    server: &Server,
    call: &Call,
    writer: &EventWriter,
    mark_end: bool,
    pending: &mut VecDeque<Bytes>,
) -> Result<u64, Status> {
    let namespace = Some(call.path.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let page = server.store().list(&call.resource(), namespace, None, None);
    let page = page.map_err(|_| Status::internal("the current state has expired"))?;
    let mut chunk = Vec::new();
    for (_, object) in page.objects.iter().filter(|(_, object)| writer.selector.selects(&object.value)) {
        chunk.extend_from_slice(&writer.line("ADDED", object));
    }
    if mark_end {
        chunk.extend_from_slice(&writer.bookmark(page.revision, true));
    }
    if !chunk.is_empty() {
        pending.push_back(Bytes::from(chunk));
    }
    Ok(page.revision)
}

/// Selects the events of a watch, and writes them as lines.
struct EventWriter {
    kind: Arc<Kind>,
    form: Form,
    selector: Selector,
    namespace: String,
    tables: Option<Tables>,
    /// Whether nothing has been sent yet: only the first table defines the columns.
    first: std::cell::Cell<bool>,
}

impl EventWriter {
    fn line(&self, change: &str, object: &Object) -> Vec<u8> {
        let json = match &self.tables {
            Some(tables) => {
                let table = tables.table_of_one(&self.kind, &object.value, self.first.replace(false));
                Bytes::from(table.to_string())
            }
            None => view::json(&self.kind, object, self.form),
        };
        let mut line = format!("{{\"type\":\"{change}\",\"object\":").into_bytes();
        line.extend_from_slice(&json);
        line.extend_from_slice(b"}\n");
        line
    }

    /// Writes a bookmark: the revision up to which the client has received all changes. `end` marks the end of the
    /// existing objects.
    fn bookmark(&self, revision: u64, end: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if end && let Some(map) = metadata.as_object_mut() {
            map.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let (kind, version) = match self.form {
            Form::Whole => (self.kind.kind.clone(), self.kind.api_version()),
            Form::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            Form::Table => ("Table".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        let object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        let mut line = json!({"type": "BOOKMARK", "object": object}).to_string().into_bytes();
        line.push(b'\n');
        line
    }

    /// Writes a change as this client sees it: an object that is no longer selected is deleted, and one that now is
    /// selected is added.
    fn event(&self, event: &Event) -> Option<Vec<u8>> {
        let prefix = &self.namespace;
        if !prefix.is_empty() && event.key.split_once('/').is_none_or(|(namespace, _)| namespace != prefix) {
            return None;
        }
        let now = event.change != Change::Deleted && self.selector.selects(&event.object.value);
        let before = event.previous.as_ref().is_some_and(|object| self.selector.selects(&object.value));
        match (before, now) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", &event.object)),
            (true, true) => Some(self.line("MODIFIED", &event.object)),
            (true, false) if event.change == Change::Deleted => Some(self.line("DELETED", &event.object)),
            // The client gets the object as it last saw it, with the revision of the change.
            (true, false) => {
                let mut last = event.previous.as_ref().map(|object| object.value.clone()).unwrap_or_default();
                crate::meta::set(&mut last, "resourceVersion", event.object.revision.to_string());
                let last = Object::new(event.object.revision, last);
                Some(self.line("DELETED", &last))
            }
        }
    }
}

fn expired_line(expired: Expired) -> Bytes {
    let message = format!("too old resource version: {} ({})", expired.asked, expired.oldest);
    let line: Value = json!({"type": "ERROR", "object": Status::expired(message).to_value()});
    Bytes::from(format!("{line}\n"))
}

struct WatchStream {
    /// `None`: the stream ends after the pending lines.
    watch: Option<Watch>,
    writer: EventWriter,
    pending: VecDeque<Bytes>,
    until: Instant,
    bookmark: Option<Instant>,
}

impl WatchStream {
    /// Returns the next lines. `None`: the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.pending.pop_front() {
                return Some(chunk);
            }
            let watch = self.watch.as_mut()?;
            let timer = self.bookmark.map_or(self.until, |bookmark| bookmark.min(self.until));
            let read = tokio::select! {
                biased;
                read = watch.next() => read,
                () = tokio::time::sleep_until(timer) => watch.read(),
            };
            match read {
                Ok(events) if !events.is_empty() => {
                    let chunk: Vec<u8> = events.iter().filter_map(|event| self.writer.event(event)).flatten().collect();
                    if !chunk.is_empty() {
                        self.pending.push_back(Bytes::from(chunk));
                    }
                }
                Err(expired) => {
                    self.pending.push_back(expired_line(expired));
                    self.watch = None;
                }
                Ok(_) if timer == self.until => return None,
                Ok(_) => {
                    let position = watch.position();
                    self.pending.push_back(Bytes::from(self.writer.bookmark(position, false)));
                    self.bookmark = Some(timer + BOOKMARK_INTERVAL);
                }
            }
        }
    }
}
