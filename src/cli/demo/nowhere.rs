//! In place of [`super::here`], where this program was built without a broker of its own.

use std::future::{Ready, ready};

use super::Failure;
use super::place::Place;
use super::scenario::Mischief;
use sluice_base::clock::Clock;

/// There is none.
pub(super) enum Here {}

impl Here {
    pub(super) fn start(_: Clock) -> Ready<Result<Self, Failure>> {
        ready(Err(
            "this program has no broker of its own: give --kubeconfig, --kafka-host and --image, or build it with the \
                   feature demo"
                .into(),
        ))
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

    pub(super) fn failed(&mut self) -> Ready<Failure> {
        match *self {}
    }

    pub(super) fn stop(self) -> Ready<()> {
        match self {}
    }
}
