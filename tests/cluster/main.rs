//! Tests against a real Kubernetes with containers and a real Kafka, with the operator as a separate process.
//!
//! `make test` runs them through hack/with-testbed. Each test has its own namespace, topic, and operator that watches
//! only this namespace. They run one after another, because they measure times and would disturb each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its fixtures too"
)]

mod access;
mod bed;
mod deputy;
mod faults;
mod helm;
mod leaving;
mod load;
mod node;
mod refusals;
mod replicas;
mod seen;
mod zero;
