//! What a store keeps on disk: a snapshot, and a log of the changes since.
//!
//! Every record is a line: a checksum, a space, JSON. A change is handed to the system before anybody can see it, so it
//! outlives a process that is killed at any moment. It is flushed to the disk once a second ([`Store::flush`]), so a
//! machine that loses power may lose the last second. What a killed writer leaves behind is an unfinished last line,
//! which is dropped; anything else that does not read as it was written is an error, for nobody knows what it was.
//!
//! [`Store::flush`]: super::Store::flush

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Object, Resource};

const SNAPSHOT: &str = "snapshot";
const LOG: &str = "log";
const LOCK: &str = "lock";
/// The form of the files, so that a later one can be told apart.
const FORMAT: u64 = 1;
/// A log is folded into the snapshot when it is longer than this, and than the snapshot itself: so a change is written
/// twice on average, however many there are.
const LOG_BYTES: u64 = 8 * 1024 * 1024;

/// Why the kept objects cannot be had, or a change cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder cannot be used.
    #[error("failed to use the data folder {path}: {source}; give one that may be written")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else uses it.
    #[error("failed to use the data folder {path}: another process uses it; stop that one, or give another folder")]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("failed to read {path}: {source}; give the folder back what it has lost, or begin with an empty one")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("failed to write {path}: {source}; make room or give the right to write, and start again: nothing is lost")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A change in the log is not what was written.
    #[error(
        "failed to read {path}: the record at byte {offset} {what}; restore the folder from a copy, or give up that \
         change and all later ones: truncate -s {offset} {path}"
    )]
    Log {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The snapshot is not what was written.
    #[error(
        "failed to read {path}: the record at byte {offset} {what}; restore the folder from a copy, or begin with an \
         empty one"
    )]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A change, or an object of the snapshot.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "r")]
    revision: u64,
    #[serde(rename = "g")]
    group: String,
    #[serde(rename = "p")]
    plural: String,
    #[serde(rename = "k")]
    key: String,
    /// `None`: it is gone.
    #[serde(rename = "v")]
    value: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Head {
    format: u64,
    revision: u64,
    objects: usize,
}

/// All objects, by resource and key.
pub(super) type Objects = BTreeMap<Resource, BTreeMap<String, Arc<Object>>>;

/// The files. While it lives, no other process can use them.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    log: File,
    log_bytes: u64,
    snapshot_bytes: u64,
    /// Held, not read: the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl Journal {
    /// Opens a folder, or makes it; with the last revision and the objects that are in it.
    pub(super) fn open(folder: &Path, fresh: u64) -> Result<(Self, u64, Objects), JournalError> {
        let problem = |source| JournalError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(problem)?;
        // There are Secrets in it.
        std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(problem)?;
        let options = || OpenOptions::new().read(true).append(true).create(true).clone();
        let lock = options().open(folder.join(LOCK)).map_err(problem)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Taken { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(problem(source)),
        }
        let log = options().open(folder.join(LOG)).map_err(problem)?;
        let mut journal = Self { folder: folder.to_owned(), log, log_bytes: 0, snapshot_bytes: 0, _lock: lock };
        let (mut revision, mut objects) = (fresh, Objects::new());
        if folder.join(SNAPSHOT).exists() {
            revision = journal.read_snapshot(&mut objects)?;
        } else {
            journal.write_snapshot(revision, &objects)?;
        }
        journal.read_log(&mut revision, &mut objects)?;
        Ok((journal, revision, objects))
    }

    fn read_snapshot(&mut self, objects: &mut Objects) -> Result<u64, JournalError> {
        let path = self.folder.join(SNAPSHOT);
        let bytes = std::fs::read(&path).map_err(|source| JournalError::Read { path: path.clone(), source })?;
        let wrong = |offset, what| JournalError::Snapshot { path: path.clone(), offset, what };
        let mut lines = Lines { bytes: &bytes, offset: 0 };
        let head = lines.next().ok_or_else(|| wrong(0, "is missing"))?;
        let head: Head = parse(head.1).ok_or_else(|| wrong(0, "is not what was written"))?;
        if head.format != FORMAT {
            return Err(wrong(0, "is of another version of this program"));
        }
        for _ in 0..head.objects {
            let offset = lines.offset;
            let line = lines.next().ok_or_else(|| wrong(offset, "is missing"))?;
            let record: Record = parse(line.1).ok_or_else(|| wrong(offset, "is not what was written"))?;
            apply(objects, record);
        }
        self.snapshot_bytes = bytes.len() as u64;
        Ok(head.revision)
    }

    fn read_log(&mut self, revision: &mut u64, objects: &mut Objects) -> Result<(), JournalError> {
        let path = self.folder.join(LOG);
        let mut bytes = Vec::new();
        self.log.read_to_end(&mut bytes).map_err(|source| JournalError::Read { path: path.clone(), source })?;
        let wrong = |offset, what| JournalError::Log { path: path.clone(), offset, what };
        let mut lines = Lines { bytes: &bytes, offset: 0 };
        for (offset, line) in lines.by_ref() {
            let record: Record = parse(line).ok_or_else(|| wrong(offset, "is not what was written"))?;
            // A log that was about to be cut when its writer was killed: the snapshot has these changes.
            if record.revision <= *revision {
                continue;
            }
            if record.revision != *revision + 1 {
                return Err(wrong(offset, "is not the next change: others are missing before it"));
            }
            *revision = record.revision;
            apply(objects, record);
        }
        if lines.offset < bytes.len() {
            tracing::warn!(
                file = %path.display(), offset = lines.offset,
                "dropped an unfinished change at the end of the log: its writer was stopped in the middle of it"
            );
        }
        self.log_bytes = lines.offset as u64;
        self.log.set_len(self.log_bytes).map_err(|source| JournalError::Write { path, source })
    }

    /// Keeps a change. It is in the system's hands when this returns.
    pub(super) fn append(
        &mut self,
        resource: &Resource,
        key: &str,
        object: &Object,
        gone: bool,
    ) -> Result<(), JournalError> {
        let line = record(resource, key, object.revision, (!gone).then_some(object));
        let write = self.log.write_all(&line);
        write.map_err(|source| JournalError::Write { path: self.folder.join(LOG), source })?;
        self.log_bytes += line.len() as u64;
        Ok(())
    }

    /// Whether the log is to be folded into the snapshot.
    pub(super) fn is_long(&self) -> bool {
        self.log_bytes > self.snapshot_bytes.max(LOG_BYTES)
    }

    /// Folds the log into the snapshot. Killed at any point, the old files or the new ones are there, and say the same.
    pub(super) fn fold(&mut self, revision: u64, objects: &Objects) -> Result<(), JournalError> {
        self.write_snapshot(revision, objects)?;
        let cut = self.log.set_len(0);
        cut.map_err(|source| JournalError::Write { path: self.folder.join(LOG), source })?;
        self.log_bytes = 0;
        Ok(())
    }

    fn write_snapshot(&mut self, revision: u64, objects: &Objects) -> Result<(), JournalError> {
        let count: usize = objects.values().map(BTreeMap::len).sum();
        let mut bytes = line(&json!({"format": FORMAT, "revision": revision, "objects": count}).to_string());
        for (resource, objects) in objects {
            for (key, object) in objects {
                bytes.extend_from_slice(&record(resource, key, object.revision, Some(object)));
            }
        }
        let path = self.folder.join(SNAPSHOT);
        let write = || {
            let new = self.folder.join("snapshot.new");
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| JournalError::Write { path: path.clone(), source })?;
        self.snapshot_bytes = bytes.len() as u64;
        Ok(())
    }

    /// The log, to be flushed to the disk without holding up anybody.
    pub(super) fn file(&self) -> io::Result<File> {
        self.log.try_clone()
    }
}

fn apply(objects: &mut Objects, record: Record) {
    let table = objects.entry(Resource { group: record.group, plural: record.plural }).or_default();
    match record.value {
        Some(value) => table.insert(record.key, Arc::new(Object::new(record.revision, value))),
        None => table.remove(&record.key),
    };
}

fn record(resource: &Resource, key: &str, revision: u64, object: Option<&Object>) -> Vec<u8> {
    let text = |text: &str| Value::from(text).to_string();
    let value = object.map_or_else(|| axum::body::Bytes::from_static(b"null"), Object::json);
    let mut json = format!(
        "{{\"r\":{revision},\"g\":{},\"p\":{},\"k\":{},\"v\":",
        text(&resource.group),
        text(&resource.plural),
        text(key)
    );
    json.push_str(&String::from_utf8_lossy(&value));
    json.push('}');
    line(&json)
}

fn line(json: &str) -> Vec<u8> {
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// The JSON of a line whose checksum is right.
fn parse<T: for<'a> Deserialize<'a>>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if sum != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The finished lines, each with the place where it begins.
struct Lines<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.offset..)?;
        let end = memchr::memchr(b'\n', rest)?;
        let offset = self.offset;
        self.offset += end + 1;
        Some((offset, rest.get(..end)?))
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod tests;
