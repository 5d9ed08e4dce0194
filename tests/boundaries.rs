//! What the crates of this workspace may know of each other, and what is not in an operator's image. ARCHITECTURE.md has the
//! same table in words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Which crates of this workspace each of them may depend on, tests and benchmarks apart.
const MAY_DEPEND_ON: [(&str, &[&str]); 12] = [
    ("embedded-kubernetes", &["sluice-base"]),
    ("sluice-api", &[]),
    ("sluice-base", &[]),
    ("sluice-bench", &["sluice-base", "sluice-policy", "sluice-simulate"]),
    ("sluice-operator", &["sluice-api", "sluice-base", "sluice-policy", "sluice-signals"]),
    ("sluice-policy", &["sluice-base"]),
    ("sluice-report", &["sluice-base"]),
    ("sluice-signals", &["sluice-api", "sluice-base"]),
    ("sluice-simulate", &["sluice-base", "sluice-policy"]),
    ("sluice-worker", &["sluice-api", "sluice-base"]),
    // What tests share, and the program: both may know everything but the benchmark.
    (
        "sluice-testkit",
        &["embedded-kubernetes", "sluice-api", "sluice-base", "sluice-operator", "sluice-policy", "sluice-signals"],
    ),
    (
        "sluice",
        &[
            "embedded-kubernetes",
            "sluice-api",
            "sluice-base",
            "sluice-operator",
            "sluice-policy",
            "sluice-report",
            "sluice-signals",
            "sluice-simulate",
            "sluice-worker",
        ],
    ),
];

/// Crates that the decision core and everything that is built from it alone must not have: no Kubernetes, no input or output,
/// no asynchronous runtime.
const IMPURE: [&str; 7] = ["k8s-openapi", "kube", "krafka", "reqwest", "tokio", "axum", "hyper"];

/// `cargo tree` of one package with its features, one line a package: `name version features`.
fn tree(package: &str, arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", package, "--edges", "normal,build", "--prefix", "none"])
        .args(["--format", "{p} {f}"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn has(tree: &BTreeSet<String>, package: &str) -> bool {
    tree.iter().any(|line| line.split(' ').next() == Some(package))
}

fn members() -> BTreeSet<String> {
    let manifests = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")).unwrap();
    let name = |manifest: &Path| {
        let text = std::fs::read_to_string(manifest).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
        line.trim_matches('"').to_owned()
    };
    let packages = manifests.map(|folder| name(&folder.unwrap().path().join("Cargo.toml")));
    packages.chain(["sluice".to_owned()]).collect()
}

#[test]
fn crates_depend_on_what_the_table_allows() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.into_iter().collect();
    let members = members();
    assert_eq!(members, allowed.keys().map(|&name| name.to_owned()).collect(), "the table lists each crate");
    for (package, allowed) in allowed {
        let tree = tree(package, &["--depth", "1"]);
        let others = members.iter().filter(|other| *other != package && has(&tree, other));
        for other in others {
            assert!(allowed.contains(&other.as_str()), "{package} depends on {other}, which the table does not allow");
        }
    }
}

#[test]
fn core_and_simulator_know_no_kubernetes_and_no_runtime() {
    for package in ["sluice-policy", "sluice-simulate", "sluice-bench", "sluice-report"] {
        let tree = tree(package, &[]);
        for impure in IMPURE {
            assert!(!has(&tree, impure), "{package} depends on {impure}");
        }
    }
}

/// No API server, no node that runs processes, no screen, no plots, no test broker: `hack/static` builds an image's program
/// without the default features.
#[test]
fn image_holds_no_development_tools() {
    let [image, all] = [tree("sluice", &["--no-default-features"]), tree("sluice", &[])];
    for tool in ["embedded-kubernetes", "ratatui", "crossterm", "plotters", "cel", "rcgen"] {
        assert!(has(&all, tool), "{tool} is not in the program with all its features: does it have another name now?");
        assert!(!has(&image, tool), "{tool} is in the image");
    }
    let test_broker =
        |tree: &BTreeSet<String>| tree.iter().any(|line| line.starts_with("krafka ") && line.contains("test-broker"));
    assert!(test_broker(&all) && !test_broker(&image), "krafka's test broker is in the image");
}

/// The non-test source files below a folder, with their paths from there.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let is_test = ["test", "conversations"].iter().any(|word| name.contains(word));
            if path.is_dir() {
                folders.push(path);
            } else if !is_test && path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((name, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()));
            }
        }
    }
    assert!(files.len() > 10, "only {} files in {folder}", files.len());
    files
}

/// Writes to tenants' objects have one home; the lease, the event recorder and the questions about a token each have theirs.
#[test]
fn operator_writes_from_one_module() {
    let writes = [
        ".create(",
        ".patch(",
        ".patch_scale(",
        ".patch_status(",
        ".replace(&",
        ".replace_status(",
        ".delete(",
        ".publish(",
    ];
    let homes: BTreeSet<String> = sources("crates/operator/src")
        .into_iter()
        .filter(|(_, text)| writes.iter().any(|call| text.contains(call)))
        .map(|(name, _)| name)
        .collect();
    let allowed = ["apply/writer.rs", "lease.rs", "serve/access.rs", "status/events.rs"];
    assert_eq!(homes, allowed.map(str::to_owned).into(), "only these modules may call the API server's writing verbs");
}

/// A source is reached through the hub alone, which asks the egress policy first.
#[test]
fn operator_opens_no_connection_to_sources() {
    let tree = tree("sluice-operator", &["--depth", "1"]);
    for client in ["krafka", "reqwest", "hyper", "hyper-util"] {
        assert!(!has(&tree, client), "sluice-operator depends on {client}");
    }
    for (name, text) in sources("crates/operator/src") {
        assert!(!text.contains("TcpStream"), "{name} opens a connection");
    }
}
