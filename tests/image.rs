//! The content of the operator's image, which `hack/static` builds without the default features.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::process::Command;

/// Returns the packages that the program depends on with these arguments of `cargo tree`.
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

/// The API server, the node that runs processes, the screen, the plots and the test broker must not be in a cluster.
#[test]
fn image_contains_no_development_tools() {
    let [image, all] = [packages(&["--no-default-features"]), packages(&[])];
    for tool in ["embedded_kubernetes", "ratatui", "crossterm", "plotters", "cel", "rcgen"] {
        let has = |packages: &[String]| packages.iter().any(|line| line.split(' ').next() == Some(tool));
        assert!(has(&all), "{tool} is not in the program with all features: has it been renamed?");
        assert!(!has(&image), "{tool} is in the image");
    }
    let test_broker =
        |packages: &[String]| packages.iter().any(|line| line.starts_with("krafka ") && line.contains("test-broker"));
    assert!(test_broker(&all) && !test_broker(&image));
}
