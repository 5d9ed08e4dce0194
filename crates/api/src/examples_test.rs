//! Checks that every example parses without an unknown field and satisfies the CEL rules of the API server.
//!
//! This file is in the crate and not under `tests/`, because the CEL rules are compiled in only for the crate's own
//! tests.

use std::path::{Path, PathBuf};

use kube::ResourceExt as _;

use super::StreamJob;
use super::fields::PercentileBasisPoints;

fn examples() -> Vec<(PathBuf, StreamJob)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let job = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, job)
        })
        .collect()
}

#[test]
fn every_example_satisfies_the_cel_rules() {
    let examples = examples();
    assert!(examples.len() >= 6, "only {} examples found", examples.len());
    for (path, job) in examples {
        if let Err(errors) = job.validate_cel() {
            // The client cannot evaluate `type()`. The fields whose rules use it are parsed below instead.
            let refused: Vec<_> =
                errors.iter().filter(|error| !error.message.contains("cannot be evaluated client-side")).collect();
            assert!(refused.is_empty(), "{}: {refused:?}", path.display());
        }
        let percentile = &job.spec.objective.percentile;
        assert!(PercentileBasisPoints::parse(percentile).is_some(), "{}: {percentile:?}", path.display());
    }
}

#[test]
fn examples_can_be_applied_side_by_side() {
    let mut names: Vec<String> = examples().iter().map(|(_, job)| job.name_any()).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "two examples have the same name: {names:?}");
}

#[test]
fn worker_reads_the_topic_and_group_that_the_source_names() {
    for (path, job) in examples() {
        let Some(workload) = &job.spec.workload else { continue };
        let template = serde_json::to_value(&workload.template).unwrap();
        let args: Vec<&str> = template["spec"]["containers"][0]["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap())
            .collect();
        let after = |flag: &str| args.iter().position(|arg| *arg == flag).map(|at| args[at + 1]);
        let kafka = job.spec.sources[0].kafka.as_ref().unwrap();
        assert_eq!(after("--topic"), Some(kafka.topic.as_str()), "{}", path.display());
        assert_eq!(after("--group"), Some(kafka.consumer_group.as_str()), "{}", path.display());
        assert_eq!(after("--bootstrap-servers"), Some(kafka.bootstrap_servers[0].as_str()), "{}", path.display());
    }
}
