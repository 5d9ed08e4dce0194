//! A small Kubernetes in one process: an API server over HTTP and in memory, for development, demos and tests.
//!
//! It is no part of the operator: it would run any, and none can tell it from a real one. What differs from a real API
//! server is listed in `README.md` of this folder.

#![allow(clippy::result_large_err)] // one failed request is one `Status`: nothing is gained by boxing it

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
