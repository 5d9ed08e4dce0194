//! Tests of all controllers together, with a stand-in for the kubelet, under paused time.

mod deployments;
mod determinism;
mod others;
mod world;

use world::World;
