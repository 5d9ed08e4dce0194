//! The lower bound.

use super::super::{Fixed, oracle};
use super::*;

#[test]
fn constant_load_costs_its_whole_number_of_workers() {
    // A target of 1 s leaves no room for waiting until a worker more pays.
    let scenario = Scenario { latency: 1.0, ..plain() };
    let bound = oracle(&Load::constant(8500.0, 3600), &scenario, 0.0, false);
    assert!(bound <= 9.0 * 3600.0 && bound > 8.97 * 3600.0, "{}", bound / 3600.0);
    // One of 10 s does: 170 s with one worker less for one start and one removal.
    let patient = Scenario { latency: 10.0, ..scenario };
    let bound = oracle(&Load::constant(8500.0, 3600), &patient, 0.0, false);
    assert!((8.5 * 3600.0..8.65 * 3600.0).contains(&bound), "{}", bound / 3600.0);
}

#[test]
fn no_sufficient_fixed_number_is_cheaper() {
    for (seed, latency) in [(1, 2.0), (2, 10.0), (3, 40.0)] {
        let scenario = Scenario { seed, latency, max_workers: 10, noise: Noise::Uniform(0.1), ..plain() };
        let wave: Vec<f32> = (0..900_u16).map(|t| 5000.0 + 3000.0 * (f32::from(t) / 100.0).sin()).collect();
        let load = Load::new(wave);
        for allowed in [0.0, 0.1] {
            let bound = oracle(&load, &scenario, allowed, false);
            let mut met = 0;
            for workers in 4..=10 {
                let scores = run(&load, &scenario, &mut Fixed(workers)).scores;
                if scores.late <= allowed {
                    met += 1;
                    assert!(bound <= scores.worker_seconds, "{workers}: {bound} > {}", scores.worker_seconds);
                }
            }
            assert!(met > 0, "{latency} {allowed}");
        }
    }
}

#[test]
fn allowance_lowers_and_skew_raises_the_bound() {
    // A spike of a minute in each half hour.
    let spiky: Vec<f32> = (0..3600).map(|t| if t % 1800 < 60 { 12_000.0 } else { 3000.0 }).collect();
    let load = Load::new(spiky);
    let scenario = Scenario { noise: Noise::None, max_workers: 12, ..Scenario::default() };
    let bound = |allowed, weights| oracle(&load, &scenario, allowed, weights);
    let (strict, loose, weighted) = (bound(0.0, false), bound(0.05, false), bound(0.0, true));
    assert!(loose < strict && loose >= load.records() / 1000.0, "{loose} {strict}");
    assert!(weighted > strict, "{weighted} {strict}");
    // Without any lateness the spike needs its workers: 60 s of 12 less what may wait, started and removed.
    assert!(strict > 3.0 * 3600.0 + 2.0 * 7.0 * 25.0, "{strict}");
}

#[test]
fn bound_is_infinite_if_all_workers_are_too_few() {
    let scenario = Scenario { max_workers: 4, ..plain() };
    assert!(oracle(&Load::constant(5000.0, 600), &scenario, 0.01, false).is_infinite());
    assert!(oracle(&Load::constant(3900.0, 600), &scenario, 0.01, false).is_finite());
}
