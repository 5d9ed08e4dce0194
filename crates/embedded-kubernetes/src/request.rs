//! Parses the path and the query of a request.

use std::collections::BTreeMap;

/// What the path of a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Version(String, String),
    /// An object or a collection.
    Resource(ResourcePath),
    /// Anything else: `/version`, `/readyz`, `/openapi/v3`.
    Other(String),
}

/// An object or a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// The API group. Empty: the core group.
    pub group: String,
    /// The version, for example `v1`.
    pub version: String,
    /// The namespace. Empty: all namespaces, or a resource without namespaces.
    pub namespace: String,
    /// The plural of the resource.
    pub plural: String,
    /// The name. Empty: a collection.
    pub name: String,
    /// The subresource. Empty: the object itself.
    pub subresource: String,
}

/// Parses a path. Parts after a subresource are not supported, and nothing is served there.
pub fn parse_path(path: &str) -> Path {
    let parts: Option<Vec<String>> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let other = || Path::Other(path.to_owned());
    let Some(parts) = parts else { return other() };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let owned = |text: &str| text.to_owned();
    match parts.as_slice() {
        ["api"] => Path::CoreVersions,
        ["apis"] => Path::Groups,
        ["api", version] => Path::Version(String::new(), owned(version)),
        ["apis", group] => Path::Group(owned(group)),
        ["apis", group, version] => Path::Version(owned(group), owned(version)),
        ["api", version, rest @ ..] => parse_resource("", version, rest).map_or_else(other, Path::Resource),
        ["apis", group, version, rest @ ..] => parse_resource(group, version, rest).map_or_else(other, Path::Resource),
        _ => other(),
    }
}

fn parse_resource(group: &str, version: &str, rest: &[&str]) -> Option<ResourcePath> {
    // The deprecated prefix /watch/… is not supported, because current clients do not use it.
    let (namespace, plural, name, subresource) = match rest {
        // A namespace itself, or its subresources `status` and `finalize`.
        ["namespaces", name] => ("", "namespaces", *name, ""),
        ["namespaces", name, sub @ ("status" | "finalize")] => ("", "namespaces", *name, *sub),
        ["namespaces", namespace, plural] => (*namespace, *plural, "", ""),
        ["namespaces", namespace, plural, name] => (*namespace, *plural, *name, ""),
        ["namespaces", namespace, plural, name, subresource] => (*namespace, *plural, *name, *subresource),
        [plural] => ("", *plural, "", ""),
        [plural, name] => ("", *plural, *name, ""),
        [plural, name, subresource] => ("", *plural, *name, *subresource),
        _ => return None,
    };
    let owned = |text: &str| text.to_owned();
    Some(ResourcePath {
        group: owned(group),
        version: owned(version),
        namespace: owned(namespace),
        plural: owned(plural),
        name: owned(name),
        subresource: owned(subresource),
    })
}

/// The parameters of a query. If a parameter is given twice, the first value counts.
#[derive(Debug, Clone, Default)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Parses a query.
    pub fn parse(query: &str) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| decode(&text.replace('+', " "));
            if let (Some(key), Some(value)) = (decoded(key), decoded(value)) {
                all.entry(key).or_default().push(value);
            }
        }
        Self(all)
    }

    /// Returns a parameter. Empty if it is not given.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Returns all values of a parameter.
    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a parameter is set to true. As in the real server, every value but `false` and `0` is true.
    pub fn flag(&self, key: &str) -> bool {
        self.0.contains_key(key) && !matches!(self.get(key).to_ascii_lowercase().as_str(), "false" | "0")
    }
}

/// Decodes percent encoding. `None` if the encoding is malformed or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> (String, String, String, String) {
        match parse_path(text) {
            Path::Resource(path) => (path.namespace, path.plural, path.name, path.subresource),
            other => panic!("{other:?}"),
        }
    }

    fn four(a: &str, b: &str, c: &str, d: &str) -> (String, String, String, String) {
        (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned())
    }

    #[test]
    fn paths_name_objects_and_collections() {
        assert_eq!(at("/api/v1/namespaces/a"), four("", "namespaces", "a", ""));
        assert_eq!(at("/api/v1/namespaces/a/status"), four("", "namespaces", "a", "status"));
        assert_eq!(at("/api/v1/namespaces/a/pods"), four("a", "pods", "", ""));
        assert_eq!(at("/apis/apps/v1/namespaces/a/deployments/x/scale"), four("a", "deployments", "x", "scale"));
        assert_eq!(at("/apis/g/v1/things/x%2Ey/status"), four("", "things", "x.y", "status"));
        assert_eq!(parse_path("/apis/apps/v1"), Path::Version("apps".to_owned(), "v1".to_owned()));
        assert_eq!(parse_path("/version"), Path::Other("/version".to_owned()));
        assert_eq!(parse_path("/api/v1/pods/%ff"), Path::Other("/api/v1/pods/%ff".to_owned()));
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+(d)&watch=1&dryRun=All&dryRun=x&&limit");
        assert_eq!(query.get("labelSelector"), "a=b,c in (d)");
        assert!(query.flag("watch") && !query.flag("force") && query.flag("limit"));
        assert_eq!(query.all("dryRun"), ["All", "x"]);
    }
}
