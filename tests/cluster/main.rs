//! The real tier: a real Kubernetes with real containers, a real Kafka, the operator as a process of its own.
//!
//! `make test` runs it by hack/with-testbed. Each test has a namespace and a topic of its own, and an operator that
//! watches this namespace alone; they run one after the other, since the machine has two cores.
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
