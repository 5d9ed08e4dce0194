//! The kubeconfig that `sluice local` writes: address, certificate authority and token. Only this user can read it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::Failure;

/// The name of the cluster, user and context, which also identifies a file of an earlier run.
const NAME: &str = "sluice-local";

/// Writes the kubeconfig atomically. A file that this command did not write is not overwritten.
pub(in crate::cli) fn write(path: &Path, address: SocketAddr, authority: &str, token: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        format!("failed to write {}: {error}; choose another file with --kubeconfig", path.display())
    };
    if path.exists() && !is_ours(path) {
        let why = "the file exists and is not from an earlier run of this command";
        return Err(format!("failed to write {}: {why}; choose another file with --kubeconfig", path.display()).into());
    }
    let text = serde_yaml::to_string(&config(address, authority, token))?;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&new, path)
    };
    write().map_err(|error| {
        // Remove the partly written file; only the error of the write is reported.
        let _ = std::fs::remove_file(&new);
        failed(error).into()
    })
}

/// Removes the kubeconfig if it contains this token. Another run may have replaced it with its own meanwhile.
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
    fn kubeconfig_is_private_and_other_files_are_kept() {
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
