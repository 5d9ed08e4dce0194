//! What decides in a simulation.

use crate::policy::Observation;

/// A rule that looks at a job now and then and says how many workers it should have.
pub trait Rule {
    /// Its name in tables.
    fn name(&self) -> String;

    /// Seconds between two looks.
    fn every(&self) -> f64;

    /// One look; `None` leaves the number as it is.
    fn look(&mut self, observation: &Observation) -> Option<u32>;
}
