//! The folder of `sluice local`: given and kept, or temporary.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Failure;

/// A folder for this user alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// The folder given, or a temporary one, with a name that nobody can guess.
    pub(super) fn new(given: Option<&Path>, token: &str) -> Result<Self, Failure> {
        let (path, kept) = if let Some(path) = given {
            (std::path::absolute(path)?, true)
        } else {
            let digits: String = token.chars().rev().take(12).collect();
            (std::env::temp_dir().join(format!("sluice-local-{digits}")), false)
        };
        let mend = if kept { "give another with --data-dir" } else { "give one with --data-dir" };
        // A temporary folder that is there already was put there by somebody else.
        DirBuilder::new()
            .recursive(kept)
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("failed to make the folder {}: {error}; {mend}", path.display()))?;
        Ok(Self { path, kept })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }
}

/// A temporary folder is removed, however the command ends.
impl Drop for Folder {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("sluice: failed to remove {}: {error}", self.path.display());
        }
    }
}
