//! The objects, one revision number for all of them, and the history of their changes.
//!
//! Each change takes the next revision, which is the resource version of the changed object. Each resource keeps its
//! last changes. A watcher reads them at its own pace and consists of a position only: a slow watcher costs no memory,
//! and once its position has left the history it gets an error instead of missing events. The history also gives the
//! state at an earlier revision, so that all pages of a list show the same moment.
//!
//! Nothing here waits: each call takes the lock briefly. A store may journal its changes to a folder, from which it
//! can be reopened. A change that cannot be journaled is not made.

mod journal;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use axum::body::Bytes;
use serde_json::Value;
use tokio::sync::watch as signal;

pub use journal::JournalError;
pub use watch::Watch;

use self::journal::{Journal, Objects};
use super::kinds::Resource;
use super::meta;

/// The default number of changes that are kept for each resource.
pub const HISTORY: usize = 4096;

/// An object at one revision.
#[derive(Debug)]
pub struct Object {
    /// The revision of the object's last change.
    pub revision: u64,
    /// The object in its stored version.
    pub value: Value,
    json: OnceLock<Bytes>,
}

impl Object {
    /// Creates an object that is not in the store, or not any more.
    pub fn new(revision: u64, value: Value) -> Self {
        Self { revision, value, json: OnceLock::new() }
    }

    /// Returns the object as JSON. The text is generated once and shared by all readers.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The object is new.
    Added,
    /// The object has been replaced.
    Modified,
    /// The object has been deleted.
    Deleted,
}

/// A change of one object.
#[derive(Debug)]
pub struct Event {
    /// The kind of change.
    pub change: Change,
    /// The key of the object.
    pub key: String,
    /// The object after the change. For a deletion, the last state with the revision of the deletion.
    pub object: Arc<Object>,
    /// The object before the change.
    pub previous: Option<Arc<Object>>,
}

/// Another write was faster: the object is not at the expected revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raced;

/// The history does not reach back to the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The requested revision.
    pub asked: u64,
    /// The oldest revision that is available.
    pub oldest: u64,
}

/// A list of objects at one revision.
#[derive(Debug)]
pub struct Page {
    /// The revision whose state the page shows.
    pub revision: u64,
    /// The objects and their keys, in the order of the keys.
    pub objects: Vec<(String, Arc<Object>)>,
}

#[derive(Debug)]
struct ResourceTable {
    objects: BTreeMap<String, Arc<Object>>,
    log: VecDeque<Arc<Event>>,
    /// The revision of the last change that has been dropped from the log.
    trimmed: u64,
    changed: signal::Sender<u64>,
}

impl Default for ResourceTable {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), log: VecDeque::new(), trimmed: 0, changed: signal::Sender::new(0) }
    }
}

impl ResourceTable {
    fn oldest(&self, compacted: u64) -> u64 {
        self.trimmed.max(compacted)
    }

    /// Returns the changes after a revision, oldest first.
    fn since(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let from = self.log.partition_point(|event| event.object.revision <= revision);
        self.log.range(from..)
    }
}

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    compacted: u64,
    tables: BTreeMap<Resource, ResourceTable>,
    journal: Option<Journal>,
}

impl Inner {
    fn objects(&self) -> Objects {
        self.tables.iter().map(|(resource, table)| (resource.clone(), table.objects.clone())).collect()
    }
}

/// A store of objects. Clones share them.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<RwLock<Inner>>,
    history: usize,
    /// The reason why no more changes can be made, once the journal has failed.
    failure: Arc<signal::Sender<Option<String>>>,
}

/// Returns the key of an object within its resource.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

impl Store {
    /// Creates an empty store that keeps the last `history` changes of each resource.
    pub fn new(history: usize) -> Self {
        // The first revision is not 0, because 0 means "any revision" in a list request.
        Self::from_inner(Inner { revision: 1, ..Inner::default() }, history)
    }

    /// Opens a store that is journaled in a folder, which is created if needed. The history from before is gone:
    /// watches that start there get an error that their revision has expired.
    pub fn open(folder: &Path, history: usize) -> Result<Self, JournalError> {
        let (journal, revision, objects) = Journal::open(folder, 1)?;
        let tables = objects
            .into_iter()
            .map(|(resource, objects)| (resource, ResourceTable { objects, ..ResourceTable::default() }));
        let inner = Inner { revision, compacted: revision, tables: tables.collect(), journal: Some(journal) };
        Ok(Self::from_inner(inner, history))
    }

    /// Returns an independent copy of the store, with the same objects and history. The copy has no journal.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inner = self.read();
        let tables = inner.tables.iter().map(|(resource, table)| {
            let (objects, log, trimmed) = (table.objects.clone(), table.log.clone(), table.trimmed);
            (resource.clone(), ResourceTable { objects, log, trimmed, ..ResourceTable::default() })
        });
        let (revision, compacted) = (inner.revision, inner.compacted);
        Self::from_inner(Inner { revision, compacted, tables: tables.collect(), journal: None }, self.history)
    }

    fn from_inner(inner: Inner, history: usize) -> Self {
        let failure = Arc::new(signal::Sender::new(None));
        Self { inner: Arc::new(RwLock::new(inner)), history: history.max(1), failure }
    }

    /// Waits until a change could not be journaled, and returns the reason. No change is made after that.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns the reason why no more changes can be made, if the journal has failed.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Flushes the journal to the disk. Blocks for as long as the disk takes, without holding the lock.
    pub fn flush(&self) -> std::io::Result<()> {
        let file = self.read().journal.as_ref().map(Journal::file).transpose()?;
        file.map_or(Ok(()), |file| file.sync_data())
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the revision of the last change.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// Returns an object.
    pub fn get(&self, resource: &Resource, key: &str) -> Option<Arc<Object>> {
        self.read().tables.get(resource)?.objects.get(key).cloned()
    }

    /// Lists the objects of a namespace, or of all namespaces if none is given. `at` is the revision to show, by
    /// default the current one. Only keys after `after` are listed.
    pub fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        at: Option<u64>,
        after: Option<&str>,
    ) -> Result<Page, Expired> {
        let inner = self.read();
        let revision = at.unwrap_or(inner.revision).min(inner.revision);
        let Some(table) = inner.tables.get(resource) else { return Ok(Page { revision, objects: Vec::new() }) };
        let oldest = table.oldest(inner.compacted);
        if revision < oldest {
            return Err(Expired { asked: revision, oldest });
        }
        let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix.as_str()),
        };
        let now = table.objects.range::<str, _>((start, Bound::Unbounded));
        let now = now.take_while(|(key, _)| key.starts_with(&prefix));
        let mut objects: Vec<(String, Arc<Object>)> =
            now.map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        if revision < inner.revision {
            rewind(table, revision, &mut objects, &prefix, after);
        }
        Ok(Page { revision, objects })
    }

    /// Returns the number of objects of a resource.
    pub fn count(&self, resource: &Resource) -> usize {
        self.read().tables.get(resource).map_or(0, |table| table.objects.len())
    }

    /// Stores an object and sets its resource version. `expected` is the revision that it replaces (`None`: the object
    /// must not exist).
    pub fn put(
        &self,
        resource: &Resource,
        key: &str,
        expected: Option<u64>,
        value: Value,
    ) -> Result<Arc<Object>, Raced> {
        self.commit(resource, key, expected, value, false)
    }

    /// Removes the object at revision `expected`. `value` is its last state, which watchers receive.
    pub fn remove(&self, resource: &Resource, key: &str, expected: u64, value: Value) -> Result<Arc<Object>, Raced> {
        self.commit(resource, key, Some(expected), value, true)
    }

    fn commit(
        &self,
        resource: &Resource,
        key: &str,
        expected: Option<u64>,
        mut value: Value,
        end: bool,
    ) -> Result<Arc<Object>, Raced> {
        let mut inner = self.write();
        let revision = inner.revision + 1;
        if !inner.tables.contains_key(resource) {
            inner.tables.insert(resource.clone(), ResourceTable::default());
        }
        let Some(table) = inner.tables.get_mut(resource) else { return Err(Raced) };
        let previous = table.objects.get(key).cloned();
        if previous.as_ref().map(|object| object.revision) != expected {
            return Err(Raced);
        }
        meta::set(&mut value, "resourceVersion", revision.to_string());
        let object = Arc::new(Object::new(revision, value));
        // After a change that is missing in the log, none may follow.
        if self.failure.borrow().is_some() {
            return Err(Raced);
        }
        if let Some(journal) = &mut inner.journal
            && let Err(error) = journal.append(resource, key, &object, end)
        {
            self.failure.send_replace(Some(error.to_string()));
            return Err(Raced);
        }
        let Some(table) = inner.tables.get_mut(resource) else { return Err(Raced) };
        let change = match (&previous, end) {
            (_, true) => {
                table.objects.remove(key);
                Change::Deleted
            }
            (None, false) => Change::Added,
            (Some(_), false) => Change::Modified,
        };
        if !end {
            table.objects.insert(key.to_owned(), Arc::clone(&object));
        }
        let event = Event { change, key: key.to_owned(), object: Arc::clone(&object), previous };
        table.log.push_back(Arc::new(event));
        while table.log.len() > self.history {
            if let Some(gone) = table.log.pop_front() {
                table.trimmed = gone.object.revision;
            }
        }
        table.changed.send_replace(revision);
        inner.revision = revision;
        if inner.journal.as_ref().is_some_and(Journal::is_long) {
            let objects = inner.objects();
            if let Some(Err(error)) = inner.journal.as_mut().map(|journal| journal.fold(revision, &objects)) {
                self.failure.send_replace(Some(error.to_string()));
            }
        }
        Ok(object)
    }

    /// Drops the history up to a revision, as the real store does every few minutes.
    pub fn compact(&self, revision: u64) {
        let mut inner = self.write();
        let revision = revision.min(inner.revision);
        inner.compacted = inner.compacted.max(revision);
        for table in inner.tables.values_mut() {
            while table.log.front().is_some_and(|event| event.object.revision <= revision) {
                if let Some(gone) = table.log.pop_front() {
                    table.trimmed = gone.object.revision;
                }
            }
        }
    }

    /// Watches the changes of a resource after a revision. `None`: from now on.
    pub fn watch(&self, resource: &Resource, after: Option<u64>) -> Result<Watch, Expired> {
        let mut inner = self.write();
        let (now, compacted) = (inner.revision, inner.compacted);
        let table = inner.tables.entry(resource.clone()).or_default();
        let position = after.unwrap_or(now);
        let oldest = table.oldest(compacted);
        if position < oldest {
            return Err(Expired { asked: position, oldest });
        }
        Ok(Watch::new(self.clone(), resource.clone(), position, table.changed.subscribe()))
    }

    /// Returns at most `most` changes after a revision, and the revision up to which all changes have now been read.
    fn since(&self, resource: &Resource, revision: u64, most: usize) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        let inner = self.read();
        let Some(table) = inner.tables.get(resource) else { return Ok((Vec::new(), inner.revision.max(revision))) };
        if revision < table.trimmed {
            return Err(Expired { asked: revision, oldest: table.trimmed });
        }
        let events: Vec<_> = table.since(revision).take(most).cloned().collect();
        let read = match events.last() {
            Some(last) if events.len() == most => last.object.revision,
            _ => inner.revision.max(revision),
        };
        Ok((events, read))
    }
}

/// Turns the current state into that of an earlier revision. The first change of an object after that revision holds
/// the state before it.
fn rewind(
    table: &ResourceTable,
    revision: u64,
    objects: &mut Vec<(String, Arc<Object>)>,
    prefix: &str,
    after: Option<&str>,
) {
    let mut before: BTreeMap<&str, Option<&Arc<Object>>> = BTreeMap::new();
    for event in table.since(revision) {
        let wanted = event.key.starts_with(prefix) && after.is_none_or(|after| event.key.as_str() > after);
        if wanted {
            before.entry(&event.key).or_insert(event.previous.as_ref());
        }
    }
    if before.is_empty() {
        return;
    }
    objects.retain(|(key, _)| !before.contains_key(key.as_str()));
    let then = before.into_iter().filter_map(|(key, object)| Some((key.to_owned(), Arc::clone(object?))));
    objects.extend(then);
    objects.sort_by(|(a, _), (b, _)| a.cmp(b));
}

#[cfg(test)]
mod tests;
