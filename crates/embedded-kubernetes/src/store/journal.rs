//! The files of a store on disk: a snapshot, and a log of the changes since.
//!
//! Each record is a line: a checksum, a space, and JSON. A change is passed to the operating system before any client
//! can see it, so that it survives if the process is killed at any moment. The log is flushed to the disk once a
//! second ([`Store::flush`]), so that a power failure loses at most the last second. A killed writer can leave an
//! unfinished last line, which is dropped. Any other record that does not match its checksum is an error, because its
//! content is unknown.
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
/// The format version of the files.
const FORMAT: u64 = 1;
/// The log is folded into the snapshot when it is longer than this and longer than the snapshot. Each change is then
/// written twice on average, however many there are.
const LOG_BYTES: u64 = 8 * 1024 * 1024;

/// Why the stored objects could not be read, or a change could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder could not be used.
    #[error("failed to use the data folder {path}: {source}; choose a folder that this user can write to")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses the folder.
    #[error(
        "failed to use the data folder {path}: another process uses it; stop that process, or choose another folder"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("failed to read {path}: {source}; restore the folder from a copy, or start with an empty one")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(
        "failed to write {path}: {source}; free disk space or grant write access, and start again: no change is lost"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A record in the log is damaged or missing.
    #[error(
        "failed to read {path}: the record at byte {offset} {what}; restore the folder from a copy, or discard this \
             change and all later ones: truncate -s {offset} {path}"
    )]
    Log {
        /// The file.
        path: PathBuf,
        /// The position of the record, bytes.
        offset: usize,
        /// What is wrong with the record.
        what: &'static str,
    },
    /// The snapshot is damaged.
    #[error(
        "failed to read {path}: the record at byte {offset} {what}; restore the folder from a copy, or start with an \
         empty one"
    )]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// The position of the record, bytes.
        offset: usize,
        /// What is wrong with the record.
        what: &'static str,
    },
}

/// A change in the log, or an object in the snapshot.
#[derive(Debug, Deserialize)]
struct JournalRecord {
    #[serde(rename = "r")]
    revision: u64,
    #[serde(rename = "g")]
    group: String,
    #[serde(rename = "p")]
    plural: String,
    #[serde(rename = "k")]
    key: String,
    /// `None`: the object was deleted.
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

/// The open files. No other process can use them while this exists.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    log: File,
    log_bytes: u64,
    snapshot_bytes: u64,
    /// Held and never read: the system releases the lock when the process ends for any reason.
    _lock: File,
}

impl Journal {
    /// Opens a folder, and creates it if needed. Returns the last revision and the objects in it.
    pub(super) fn open(folder: &Path, fresh: u64) -> Result<(Self, u64, Objects), JournalError> {
        let problem = |source| JournalError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(problem)?;
        // The folder contains Secrets.
        std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(problem)?;
        let options = || OpenOptions::new().read(true).append(true).create(true).clone();
        let lock = options().open(folder.join(LOCK)).map_err(problem)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: folder.to_owned() }),
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
        let mut lines = RecordLines { bytes: &bytes, offset: 0 };
        let head = lines.next().ok_or_else(|| wrong(0, "is missing"))?;
        let head: Head = parse(head.1).ok_or_else(|| wrong(0, "is damaged"))?;
        if head.format != FORMAT {
            return Err(wrong(0, "was written by another version of this program"));
        }
        for _ in 0..head.objects {
            let offset = lines.offset;
            let line = lines.next().ok_or_else(|| wrong(offset, "is missing"))?;
            let record: JournalRecord = parse(line.1).ok_or_else(|| wrong(offset, "is damaged"))?;
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
        let mut lines = RecordLines { bytes: &bytes, offset: 0 };
        for (offset, line) in lines.by_ref() {
            let record: JournalRecord = parse(line).ok_or_else(|| wrong(offset, "is damaged"))?;
            // The writer was killed after writing the snapshot and before truncating the log: the snapshot has these
            // changes.
            if record.revision <= *revision {
                continue;
            }
            if record.revision != *revision + 1 {
                return Err(wrong(offset, "does not follow the one before it: at least one change is missing"));
            }
            *revision = record.revision;
            apply(objects, record);
        }
        if lines.offset < bytes.len() {
            tracing::warn!(
                file = %path.display(), offset = lines.offset,
                "dropped an unfinished change at the log's end"
            );
        }
        self.log_bytes = lines.offset as u64;
        self.log.set_len(self.log_bytes).map_err(|source| JournalError::Write { path, source })
    }

    /// Appends a change to the log. It has been passed to the operating system when this returns.
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

    /// Returns whether the log should be folded into the snapshot.
    pub(super) fn is_long(&self) -> bool {
        self.log_bytes > self.snapshot_bytes.max(LOG_BYTES)
    }

    /// Folds the log into the snapshot. If the process is killed at any point, either the old or the new files are
    /// complete.
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

    /// Returns the log file, so that it can be flushed to the disk without holding a lock.
    pub(super) fn file(&self) -> io::Result<File> {
        self.log.try_clone()
    }
}

fn apply(objects: &mut Objects, record: JournalRecord) {
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

/// Parses the JSON of a line whose checksum matches.
fn parse<T: for<'a> Deserialize<'a>>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if sum != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Iterates over the complete lines and their positions.
struct RecordLines<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for RecordLines<'a> {
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
