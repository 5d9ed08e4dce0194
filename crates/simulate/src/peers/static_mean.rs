//! As many workers as the mean load needs, always.

use super::Limits;
use crate::rule::Rule;
use sluice_base::num;
use sluice_policy::Observation;

/// How often it would put the number right if somebody else changed it, seconds.
const INTERVAL: f64 = 60.0;

/// A number that never changes. No product: the cheapest thing that gets the work done in the end.
#[derive(Debug)]
pub struct StaticMean {
    workers: u32,
}

/// `ceil(mean / capacity)` workers. `mean`: mean rate of the whole load, records per second, which only hindsight knows;
/// `capacity`: of one worker, records per second. Nothing is observed.
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

    fn look(&mut self, _: &Observation) -> Option<u32> {
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
            assert_eq!(static_mean(mean, 1000.0, limits).look(&Observation::default()), Some(workers), "{mean}");
        }
    }
}
