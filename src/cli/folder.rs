//! The folder of a command: given and kept, or temporary and removed at the end. Should the end be a `kill -9`, the next
//! temporary folder of the kind removes it.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Locked as long as the owner of a temporary folder lives: the system lets go of a lock whose process is gone.
const LOCK: &str = "lock";

/// A folder for this user alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Of a temporary one.
    lock: Option<File>,
}

impl Folder {
    /// The folder given, or a temporary one of this kind.
    pub(super) fn new(given: Option<&Path>, kind: &str) -> Result<Self, Failure> {
        let Some(given) = given else { return Self::temporary(&std::env::temp_dir(), kind) };
        let path = std::path::absolute(given)?;
        make(&path, true).map_err(|error| failed(&path, &error, "give another with --data-dir"))?;
        Ok(Self { path, lock: None })
    }

    /// One with a name that nobody can guess, inside `parent`. Those that dead processes have left there are removed.
    fn temporary(parent: &Path, kind: &str) -> Result<Self, Failure> {
        sweep(parent, kind);
        let digits: String = embedded_kubernetes::tls::token()?.chars().take(12).collect();
        let path = parent.join(format!("sluice-{kind}-{digits}"));
        let mend = "name a folder that may be written in TMPDIR";
        // One that is there already was put there by somebody else.
        make(&path, false).map_err(|error| failed(&path, &error, mend))?;
        lock(&path)
            .map(|lock| Self { path: path.clone(), lock: Some(lock) })
            .map_err(|error| failed(&path, &error, mend))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_kept(&self) -> bool {
        self.lock.is_none()
    }
}

/// A temporary folder is removed, however the command ends.
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

fn failed(path: &Path, error: &std::io::Error, mend: &str) -> Failure {
    format!("failed to make the folder {}: {error}; {mend}", path.display()).into()
}

/// It gets its name only once it is locked, so that nobody takes it for a dead one's.
fn lock(folder: &Path) -> std::io::Result<File> {
    let new = folder.join("lock-new");
    let file = File::create_new(&new)?;
    file.lock()?;
    std::fs::rename(new, folder.join(LOCK))?;
    Ok(file)
}

/// Removes what dead processes have left. What cannot be removed is somebody else's, and no concern of ours.
fn sweep(parent: &Path, kind: &str) {
    let prefix = format!("sluice-{kind}-");
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
        // A symbolic link is none of ours.
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
    fn a_folder_goes_with_its_owner_and_a_dead_ones_with_the_next() {
        let parent = std::env::temp_dir().join(format!("sluice-test-folder-{}", std::process::id()));
        make(&parent, false).unwrap();
        let alive = Folder::temporary(&parent, "test").unwrap();
        // As a killed process leaves it: there, and locked by nobody.
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
    fn a_folder_that_was_given_stays() {
        let parent = std::env::temp_dir().join(format!("sluice-test-kept-{}", std::process::id()));
        let folder = Folder::new(Some(&parent.join("a/b")), "test").unwrap();
        assert!(folder.is_kept());
        drop(folder);
        std::fs::remove_dir(parent.join("a/b")).unwrap();
        std::fs::remove_dir_all(parent).unwrap();
    }
}
