//! A constant number of workers: as many as the mean load needs.

use super::Limits;
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// Period in which the rule would restore its number if it was changed, seconds.
const INTERVAL: f64 = 60.0;

/// A number that never changes. Not a product, but the cheapest way to process everything in the end.
#[derive(Debug)]
pub struct StaticMean {
    workers: u32,
}

/// Returns a rule with `ceil(mean / capacity)` workers. `mean`: mean rate of the whole load, records per second, known
/// only in hindsight; `capacity`: capacity of one worker, records per second. It observes nothing.
pub fn static_mean(mean: f64, capacity: f64, limits: Limits) -> StaticMean {
    StaticMean { workers: limits.clamp(num::ceil_u32(mean / capacity)) }
}

impl Rule for StaticMean {
    fn name(&self) -> String {
        "static-mean".to_owned()
    }

    fn every(&self) -> f64 {
        INTERVAL
    }

    fn decide(&mut self, _: &Observation) -> Option<u32> {
        Some(self.workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_and_stays_within_the_limits() {
        let limits = Limits { min: 2, max: 40, partitions: 24 };
        for (mean, workers) in [(5_000.0, 5), (5_001.0, 6), (0.0, 2), (1e9, 24), (f64::NAN, 2)] {
            assert_eq!(static_mean(mean, 1000.0, limits).decide(&Observation::default()), Some(workers), "{mean}");
        }
    }
}
