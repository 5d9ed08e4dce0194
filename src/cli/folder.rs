//! The working folder of a command: named by the user and kept, or temporary and removed at the end. If the process
//! ends by `kill -9`, the next command that creates a temporary folder of the same kind removes it.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The lock file in a temporary folder, held as long as its owner runs: the system releases the lock of an ended
/// process.
const LOCK: &str = "lock";

/// A folder that only this user can access.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The held lock, if the folder is temporary.
    lock: Option<File>,
}

impl Folder {
    /// Opens the given folder, or creates a temporary one. `kind` becomes a part of its name.
    pub(super) fn new(given: Option<&Path>, kind: &str) -> Result<Self, Failure> {
        let Some(given) = given else { return Self::temporary(&std::env::temp_dir(), kind) };
        let path = std::path::absolute(given)?;
        make(&path, true).map_err(|error| failed(&path, &error, "choose another with --data-dir"))?;
        Ok(Self { path, lock: None })
    }

    /// Creates a folder with an unguessable name inside `parent`, and removes those that ended processes left there.
    fn temporary(parent: &Path, kind: &str) -> Result<Self, Failure> {
        remove_abandoned(parent, kind);
        let digits: String = embedded_kubernetes::tls::token()?.chars().take(12).collect();
        let path = parent.join(format!("sluice-{kind}-{digits}"));
        let fix = "set TMPDIR to a folder that this user can write to";
        // If the folder already exists, another user or program created it.
        make(&path, false).map_err(|error| failed(&path, &error, fix))?;
        lock(&path)
            .map(|lock| Self { path: path.clone(), lock: Some(lock) })
            .map_err(|error| failed(&path, &error, fix))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_kept(&self) -> bool {
        self.lock.is_none()
    }
}

/// Removes a temporary folder, however the command ends.
impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_kept() {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("sluice: failed to remove {}: {error}", self.path.display());
        }
    }
}

fn make(path: &Path, recursive: bool) -> std::io::Result<()> {
    DirBuilder::new().recursive(recursive).mode(0o700).create(path)
}

fn failed(path: &Path, error: &std::io::Error, fix: &str) -> Failure {
    format!("failed to create the folder {}: {error}; {fix}", path.display()).into()
}

/// Creates the lock file. It gets its final name only once it is locked, so that no other process considers the folder
/// abandoned in between.
fn lock(folder: &Path) -> std::io::Result<File> {
    let new = folder.join("lock-new");
    let file = File::create_new(&new)?;
    file.lock()?;
    std::fs::rename(new, folder.join(LOCK))?;
    Ok(file)
}

/// Removes the folders of ended processes. A folder that cannot be removed belongs to another user and is ignored.
fn remove_abandoned(parent: &Path, kind: &str) {
    let prefix = format!("sluice-{kind}-");
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
        // This program never creates a symbolic link here.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) if is_folder => drop(std::fs::remove_dir_all(entry.path())),
            Ok(()) | Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_removed_by_its_owner_or_the_next() {
        let parent = std::env::temp_dir().join(format!("sluice-test-folder-{}", std::process::id()));
        make(&parent, false).unwrap();
        let alive = Folder::temporary(&parent, "test").unwrap();
        // The state that a killed process leaves: the folder exists and no process holds its lock.
        let dead = parent.join("sluice-test-dead");
        make(&dead, false).unwrap();
        File::create(dead.join(LOCK)).unwrap();
        std::fs::write(dead.join("secret"), "x").unwrap();
        let (other, unfinished) = (parent.join("sluice-other-1"), parent.join("sluice-test-unfinished"));
        make(&other, false).unwrap();
        make(&unfinished, false).unwrap();

        let next = Folder::temporary(&parent, "test").unwrap();
        assert!(!dead.exists());
        assert!(alive.path().exists() && next.path().exists() && other.exists() && unfinished.exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
        drop(alive);
        std::fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_given_folder_is_kept() {
        let parent = std::env::temp_dir().join(format!("sluice-test-kept-{}", std::process::id()));
        let folder = Folder::new(Some(&parent.join("a/b")), "test").unwrap();
        assert!(folder.is_kept());
        drop(folder);
        std::fs::remove_dir(parent.join("a/b")).unwrap();
        std::fs::remove_dir_all(parent).unwrap();
    }
}
