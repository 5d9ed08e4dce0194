//! Expands `$(VARIABLE)` in commands, arguments and the environment, and the paths at which volumes are mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Replaces references by the values of variables. `$$` is a dollar; a reference to an unknown variable stays.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        expanded.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|name| name.split_once(')')) {
            match variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

/// The local paths of a container's volumes. A process sees this machine's files, so the paths at which it expects its
/// volumes are replaced by the local ones in its command, arguments and environment.
#[derive(Debug, Clone, Default)]
pub(super) struct Mounts(Vec<(String, PathBuf)>);

impl Mounts {
    /// Creates the table of mounts by the path in the container. Deeper paths are matched first.
    pub(super) fn new(mounts: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let trimmed = mounts.into_iter().map(|(path, local)| (path.trim_end_matches('/').to_owned(), local));
        let mut all: Vec<_> = trimmed.filter(|(path, _)| path.len() > 1 && path.starts_with('/')).collect();
        all.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self(all)
    }

    /// Returns the text with every path below a mount replaced.
    pub(super) fn in_text(&self, text: &str) -> String {
        let part_of_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-' | '/');
        let mut done = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('/') {
            let (before, from) = rest.split_at(at);
            done.push_str(before);
            let starts = !done.ends_with(part_of_name);
            let found = self.0.iter().find(|(path, _)| {
                starts
                    && from
                        .strip_prefix(path.as_str())
                        .is_some_and(|after| after.starts_with('/') || !after.starts_with(part_of_name))
            });
            let taken = if let Some((path, local)) = found {
                done.push_str(&local.display().to_string());
                path.len()
            } else {
                done.push('/');
                1
            };
            rest = from.get(taken..).unwrap_or_default();
        }
        done.push_str(rest);
        done
    }

    /// Returns the path, replaced if it is below a mount.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        Path::new(&self.in_text(path)).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_in_the_kubelet() {
        let variables = BTreeMap::from([("A", "1"), ("B", "2")].map(|(key, value)| (key.to_owned(), value.to_owned())));
        let expand = |text: &str| expand(text, &variables);
        assert_eq!(expand("$(A)-$(B)"), "1-2");
        assert_eq!(expand("$$(A) $(C) $A $"), "$(A) $(C) $A $");
        assert_eq!(expand("$$$(A)"), "$1");
        assert_eq!(expand("$(A"), "$(A");
    }

    #[test]
    fn mount_paths_are_replaced_in_text() {
        let mounts = Mounts::new(
            [("/etc/app/", "/v/a"), ("/etc/app/deep", "/v/b"), ("/", "/v/c")]
                .map(|(path, local)| (path.to_owned(), PathBuf::from(local))),
        );
        assert_eq!(mounts.in_text("/etc/app/x.json"), "/v/a/x.json");
        assert_eq!(mounts.in_text("/etc/app"), "/v/a");
        assert_eq!(mounts.in_text("--file=/etc/app/deep/x,/etc/app"), "--file=/v/b/x,/v/a");
        assert_eq!(mounts.in_text("cat '/etc/app/x' >/etc/application"), "cat '/v/a/x' >/etc/application");
        assert_eq!(mounts.in_text("/usr/etc/app http://etc/app"), "/usr/etc/app http://etc/app");
    }
}
