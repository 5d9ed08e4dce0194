//! What the operator's image holds: `hack/static` builds it without the default features.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::process::Command;

/// The packages that the program depends on, with these arguments for `cargo tree`.
fn packages(features: &[&str]) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--package",
            "sluice",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{lib} {f}",
        ])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8(tree.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// No API server, no node that runs processes, no screen, no plots, no test broker: none of them belongs into a cluster.
#[test]
fn image_holds_no_development_tools() {
    let [image, all] = [packages(&["--no-default-features"]), packages(&[])];
    for tool in ["embedded_kubernetes", "ratatui", "crossterm", "plotters", "cel", "rcgen"] {
        let has = |packages: &[String]| packages.iter().any(|line| line.split(' ').next() == Some(tool));
        assert!(has(&all), "{tool} is not in the program with all its features: is it called otherwise now?");
        assert!(!has(&image), "{tool} is in the image");
    }
    let test_broker =
        |packages: &[String]| packages.iter().any(|line| line.starts_with("krafka ") && line.contains("test-broker"));
    assert!(test_broker(&all) && !test_broker(&image));
}
