//! Writes the files of a volume as the kubelet does: into a new folder, to which one symbolic link is then switched. A
//! reader sees either all the old files or all the new ones.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

/// The link to the folder of the current files.
const DATA: &str = "..data";

/// The content and the mode of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileContent {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// The files of a volume, by their path in the volume.
pub(super) type Payload = BTreeMap<PathBuf, FileContent>;

/// Makes `volume` hold exactly these files. `stamp` names the new folder, and must differ for each call.
pub(super) fn write(volume: &Path, payload: &Payload, stamp: &str) -> io::Result<()> {
    fs::create_dir_all(volume)?;
    let data = volume.join(DATA);
    let before = fs::read_link(&data).ok();
    let name = format!("..{stamp}");
    let new = volume.join(&name);
    for (path, content) in payload {
        let path = new.join(inside(path)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &content.bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(content.mode & 0o777))?;
    }
    fs::create_dir_all(&new)?;
    let turning = volume.join("..data_tmp");
    let _ = fs::remove_file(&turning);
    symlink(&name, &turning)?;
    fs::rename(&turning, &data)?;

    let mut tops: Vec<PathBuf> =
        payload.keys().filter_map(|path| path.components().next()).map(|top| PathBuf::from(top.as_os_str())).collect();
    tops.dedup();
    for top in &tops {
        let link = volume.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), link)?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let name = PathBuf::from(entry?.file_name());
        if !name.to_string_lossy().starts_with("..") && !tops.contains(&name) {
            fs::remove_file(volume.join(name))?;
        }
    }
    if let Some(before) = before.filter(|before| before.as_os_str() != name.as_str()) {
        fs::remove_dir_all(volume.join(before))?;
    }
    Ok(())
}

/// Returns the path if it stays inside the volume.
fn inside(path: &Path) -> io::Result<&Path> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} points outside of the volume", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let content = |text: &str| FileContent { bytes: text.as_bytes().to_vec(), mode: 0o640 };
        files.iter().map(|(path, text)| (PathBuf::from(path), content(text))).collect()
    }

    #[test]
    fn files_are_replaced_all_at_once() {
        let volume = std::env::temp_dir().join(format!("embedded-swap-{}", std::process::id()));
        let _ = fs::remove_dir_all(&volume);
        write(&volume, &payload(&[("a", "1"), ("b", "1"), ("deep/c", "1")]), "one").unwrap();
        // Each write must switch the link to another folder.
        let held = fs::read_link(volume.join(DATA)).unwrap();
        assert_eq!(fs::read_to_string(volume.join("deep/c")).unwrap(), "1");
        assert_eq!(fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        write(&volume, &payload(&[("a", "2"), ("d", "2")]), "two").unwrap();
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "2");
        assert_eq!(fs::read_to_string(volume.join("d")).unwrap(), "2");
        let mut names: Vec<String> =
            fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["..data", "..two", "a", "d"]);
        assert_ne!(fs::read_link(volume.join(DATA)).unwrap(), held);
        let error = write(&volume, &payload(&[("../x", "3")]), "three").unwrap_err();
        assert_eq!(error.to_string(), "../x points outside of the volume");
        fs::remove_dir_all(&volume).unwrap();
    }
}
