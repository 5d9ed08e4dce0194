//! The kubeconfig that `sluice local` writes: where the server is, whom to trust, and the token. For this user's eyes only.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::Failure;

/// The name of cluster, user and context; by it a file of an earlier run is known.
const NAME: &str = "sluice-local";

/// Writes it whole or not at all. A file that somebody else has written is left alone.
pub(in crate::cli) fn write(path: &Path, address: SocketAddr, authority: &str, token: &str) -> Result<(), Failure> {
    let failed =
        |error: io::Error| format!("failed to write {}: {error}; give another file with --kubeconfig", path.display());
    if path.exists() && !is_ours(path) {
        let why = "it is there already, and not from an earlier run of this command";
        return Err(format!("failed to write {}: {why}; give another file with --kubeconfig", path.display()).into());
    }
    let text = serde_yaml::to_string(&config(address, authority, token))?;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&new, path)
    };
    write().map_err(|error| {
        // The error is about the file that was asked for; a half-written one is of no use.
        let _ = std::fs::remove_file(&new);
        failed(error).into()
    })
}

/// Removes the one with this token: nobody answers there any more. Another run may have put its own in this place.
pub(super) fn remove(path: &Path, token: &str) {
    if std::fs::read_to_string(path).is_ok_and(|text| text.contains(token)) {
        let _ = std::fs::remove_file(path);
    }
}

fn is_ours(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let config: Value = serde_yaml::from_str(&text).unwrap_or_default();
    config.pointer("/current-context").and_then(Value::as_str) == Some(NAME)
        && config.pointer("/contexts").and_then(Value::as_array).is_some_and(|contexts| contexts.len() == 1)
}

fn config(address: SocketAddr, authority: &str, token: &str) -> Value {
    let cluster = json!({
        "server": format!("https://{address}"),
        "certificate-authority-data": ByteString(authority.as_bytes().to_vec()),
    });
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_of_somebody_else_is_left_alone_and_our_own_is_for_us_alone() {
        let folder = std::env::temp_dir().join(format!("sluice-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("config");
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        write(&path, address, "authority", "token").unwrap();
        write(&path, address, "authority", "another").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains("token: another"));
        std::fs::write(&path, "current-context: production").unwrap();
        let error = write(&path, address, "authority", "token").unwrap_err().to_string();
        assert!(error.contains("not from an earlier run"), "{error}");
        remove(&path, "token");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "current-context: production");
        std::fs::remove_file(&path).unwrap();
        write(&path, address, "authority", "of another run").unwrap();
        remove(&path, "token-1");
        assert!(path.exists());
        remove(&path, "of another run");
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
