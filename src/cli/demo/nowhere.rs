//! In place of [`super::here`], where this program was built without a broker of its own.

use super::Failure;
use super::place::Place;
use super::scenario::Mischief;
use crate::clock::Clock;

/// There is none.
pub(super) enum Here {}

impl Here {
    #[allow(clippy::unused_async, reason = "called as the broker of the feature demo is, whose start waits")]
    pub(super) async fn start(_: Clock) -> Result<Self, Failure> {
        Err("this program has no broker of its own: give --kubeconfig, --kafka-host and --image, or build it with the feature demo".into())
    }

    pub(super) fn place(&self) -> Place {
        match *self {}
    }

    pub(super) fn way_in(&self) -> String {
        match *self {}
    }

    pub(super) fn play(&self, _: &mut Mischief, _: f64) {
        match *self {}
    }

    pub(super) async fn failed(&mut self) -> Failure {
        match *self {}
    }

    pub(super) async fn stop(self) {
        match self {}
    }
}
