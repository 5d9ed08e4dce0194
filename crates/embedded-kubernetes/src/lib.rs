//! A small Kubernetes in one process: an API server over HTTP and in memory, for development, demos and tests.
//!
//! It is not part of the operator: it would run any operator, and none can tell it from a real cluster. `README.md` in
//! this folder lists the differences from a real API server.

#![allow(clippy::result_large_err)] // each failed request makes one `Status`, so boxing it gains nothing

pub mod api;
pub mod apply;
pub mod builtin;
pub mod clock;
pub mod cluster;
#[cfg(test)]
mod conformance;
pub mod controllers;
pub mod faults;
pub mod http;
pub mod kinds;
#[cfg(test)]
mod kubectl_test;
pub mod lists;
pub mod logs;
pub mod meta;
pub mod names;
pub mod node;
pub mod ownership;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod random;
pub mod request;
pub mod scheduler;
pub mod schema;
pub mod selector;
pub mod service;
pub mod standin;
pub mod status;
pub mod store;
pub mod table;
pub mod tls;
