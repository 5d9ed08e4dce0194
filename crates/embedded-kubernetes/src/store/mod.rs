//! The objects, one revision over all of them, and the history of their changes.
//!
//! Every change takes the next revision, which is the changed object's resource version. Each resource keeps its last
//! changes: watchers read them from there at their own pace, each with nothing but a position, so a slow one costs
//! no memory and, once it has fallen out of the history, is told so instead of losing events. The same history gives
//! the state at an earlier revision, which is how the pages of a list show one moment.
//!
//! Nothing here waits: every call takes the lock, does a little, and gives it back. A store may keep its changes in a
//! folder, from which it is opened again; a change that cannot be kept does not happen.

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

/// How many changes of each resource are kept if nothing else is said.
pub const HISTORY: usize = 4096;

/// An object as of one revision.
#[derive(Debug)]
pub struct Object {
    /// The revision of its last change.
    pub revision: u64,
    /// The object, in the version that is stored.
    pub value: Value,
    json: OnceLock<Bytes>,
}

impl Object {
    /// An object that is not, or not any more, the one that is kept.
    pub fn new(revision: u64, value: Value) -> Self {
        Self { revision, value, json: OnceLock::new() }
    }

    /// The object as JSON, written once for all who read it.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }
}

/// What has happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is another.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Debug)]
pub struct Event {
    /// What has happened.
    pub change: Change,
    /// Where.
    pub key: String,
    /// The object after the change; of one that is gone, the last state with the revision of its end.
    pub object: Arc<Object>,
    /// The object before the change.
    pub previous: Option<Arc<Object>>,
}

/// Somebody else was faster: the object is not at the revision that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raced;

/// The history does not reach back to the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The revision asked for.
    pub asked: u64,
    /// The oldest one that could be had.
    pub oldest: u64,
}

/// A part of a list.
#[derive(Debug)]
pub struct Page {
    /// The revision whose state it shows.
    pub revision: u64,
    /// The objects, by key.
    pub objects: Vec<(String, Arc<Object>)>,
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<String, Arc<Object>>,
    log: VecDeque<Arc<Event>>,
    /// The revision of the last change that has left the log.
    trimmed: u64,
    changed: signal::Sender<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), log: VecDeque::new(), trimmed: 0, changed: signal::Sender::new(0) }
    }
}

impl Table {
    fn oldest(&self, compacted: u64) -> u64 {
        self.trimmed.max(compacted)
    }

    /// The changes after a revision, oldest first.
    fn since(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let from = self.log.partition_point(|event| event.object.revision <= revision);
        self.log.range(from..)
    }
}

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    compacted: u64,
    tables: BTreeMap<Resource, Table>,
    journal: Option<Journal>,
}

impl Inner {
    fn objects(&self) -> Objects {
        self.tables.iter().map(|(resource, table)| (resource.clone(), table.objects.clone())).collect()
    }
}

/// All objects. Clones share them.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<RwLock<Inner>>,
    history: usize,
    /// Why nothing can be kept any more, once that is so.
    failure: Arc<signal::Sender<Option<String>>>,
}

/// Where an object is in its resource.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

impl Store {
    /// No objects. Of each resource the last `history` changes will be kept.
    pub fn new(history: usize) -> Self {
        // A fresh cluster is not at revision 0, which means "any" to those who list.
        Self::of(Inner { revision: 1, ..Inner::default() }, history)
    }

    /// The objects kept in a folder, which is made if it is not there; their changes will be kept in it too. What
    /// happened before is not remembered: watches from then are told that their revision has expired.
    pub fn open(folder: &Path, history: usize) -> Result<Self, JournalError> {
        let (journal, revision, objects) = Journal::open(folder, 1)?;
        let tables = objects.into_iter().map(|(resource, objects)| (resource, Table { objects, ..Table::default() }));
        let inner = Inner { revision, compacted: revision, tables: tables.collect(), journal: Some(journal) };
        Ok(Self::of(inner, history))
    }

    /// Another store with the same objects and the same history, which from here on is its own. It is kept nowhere.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inner = self.read();
        let tables = inner.tables.iter().map(|(resource, table)| {
            let (objects, log, trimmed) = (table.objects.clone(), table.log.clone(), table.trimmed);
            (resource.clone(), Table { objects, log, trimmed, ..Table::default() })
        });
        let (revision, compacted) = (inner.revision, inner.compacted);
        Self::of(Inner { revision, compacted, tables: tables.collect(), journal: None }, self.history)
    }

    fn of(inner: Inner, history: usize) -> Self {
        let failure = Arc::new(signal::Sender::new(None));
        Self { inner: Arc::new(RwLock::new(inner)), history: history.max(1), failure }
    }

    /// Waits until a change could not be kept, and says why. From then on nothing changes any more.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Why nothing changes any more, if that is so.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Flushes what is kept to the disk. Blocks as long as the disk takes, but holds nobody up.
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

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// One object.
    pub fn get(&self, resource: &Resource, key: &str) -> Option<Arc<Object>> {
        self.read().tables.get(resource)?.objects.get(key).cloned()
    }

    /// The objects of a namespace or, if none is given, of all; as of a revision, if one is given, otherwise as of now;
    /// those after a key, if one is given.
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

    /// How many objects a resource has.
    pub fn count(&self, resource: &Resource) -> usize {
        self.read().tables.get(resource).map_or(0, |table| table.objects.len())
    }

    /// Puts an object where the caller has seen `seen` (`None`: nothing), and gives it its resource version.
    pub fn put(&self, resource: &Resource, key: &str, seen: Option<u64>, value: Value) -> Result<Arc<Object>, Raced> {
        self.commit(resource, key, seen, value, false)
    }

    /// Removes the object that the caller has seen at `seen`. `value` is its last state, which watchers are told.
    pub fn remove(&self, resource: &Resource, key: &str, seen: u64, value: Value) -> Result<Arc<Object>, Raced> {
        self.commit(resource, key, Some(seen), value, true)
    }

    fn commit(
        &self,
        resource: &Resource,
        key: &str,
        seen: Option<u64>,
        mut value: Value,
        end: bool,
    ) -> Result<Arc<Object>, Raced> {
        let mut inner = self.write();
        let revision = inner.revision + 1;
        if !inner.tables.contains_key(resource) {
            inner.tables.insert(resource.clone(), Table::default());
        }
        let Some(table) = inner.tables.get_mut(resource) else { return Err(Raced) };
        let previous = table.objects.get(key).cloned();
        if previous.as_ref().map(|object| object.revision) != seen {
            return Err(Raced);
        }
        meta::set(&mut value, "resourceVersion", revision.to_string());
        let object = Arc::new(Object::new(revision, value));
        // Where a change is missing in the log, none may follow.
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

    /// Forgets the history up to a revision, as the real store does every few minutes.
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

    /// The changes of a resource after a revision. `None`: from now on.
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

    /// Up to `most` changes after a revision, and the revision up to which all have been read with them.
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

/// Turns the present state into the one of an earlier revision: the first change of an object after it knows what
/// there was before.
fn rewind(table: &Table, revision: u64, objects: &mut Vec<(String, Arc<Object>)>, prefix: &str, after: Option<&str>) {
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
