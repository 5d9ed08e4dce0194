//! The Flink autoscaler over time: windows, delays, and what discards them.

use super::super::scene::Scene;
use super::*;

const LIMITS: Limits = Limits { min: 1, max: 40, partitions: 120 };

fn rule(options: Options) -> Flink {
    Flink::new("flink", options, 0.7, LIMITS)
}

/// Runs the rule every 10 s for `seconds`. Returns when it wanted another number, in seconds since the start, and
/// which.
fn watch(rule: &mut Flink, scene: &mut Scene, seconds: u32) -> Vec<(f64, u32)> {
    let start = scene.at;
    let looks = (0..seconds / 10).filter_map(|_| {
        let observation = scene.pass(10.0);
        rule.decide(&observation).map(|wanted| (observation.at.0 - start, wanted))
    });
    looks.collect()
}

#[test]
fn up_waits_for_stabilisation_and_a_full_window() {
    for (options, first) in [(Options::SHIPPED, 1200.0), (Options::DOCUMENTED, 360.0), (Options::MINUTE, 120.0)] {
        let (mut rule, mut scene) = (rule(options), Scene::new(10, 120));
        (scene.busy, scene.rate) = (1.0, 1000.0);
        // The load is above the band of the example only; a lag that grows is above any.
        let mut answers = Vec::new();
        for _ in 0..200 {
            scene.lag += 50_000;
            answers.extend(watch(&mut rule, &mut scene, 10).into_iter().map(|a| (scene.at - 1000.0, a.1)));
        }
        let (at, wanted) = answers[0];
        assert!((first..=first + 80.0).contains(&at), "{options:?}: {answers:?}");
        assert!(wanted > 20, "{answers:?}");
    }
}

#[test]
fn nothing_happens_inside_the_band() {
    let (mut rule, mut scene) = (rule(Options::MINUTE), Scene::new(10, 120));
    (scene.busy, scene.rate) = (0.9, 900.0); // the target is 0.7, the band reaches to 1.0
    assert_eq!(watch(&mut rule, &mut scene, 3600), []);
}

#[test]
fn down_waits_for_the_interval_and_takes_its_highest() {
    let (mut rule, mut scene) = (rule(Options::MINUTE), Scene::new(20, 120));
    (scene.busy, scene.rate) = (0.2, 200.0);
    let early = watch(&mut rule, &mut scene, 1800);
    // 4,000 a second need 667 + 5,714 of 20,000: 6.4 of 20, but no less than 0.4 times.
    (scene.busy, scene.rate) = (0.3, 300.0); // 6,000: 9.6, so 10
    let late = watch(&mut rule, &mut scene, 600);
    (scene.busy, scene.rate) = (0.2, 200.0);
    let last = watch(&mut rule, &mut scene, 1800);
    assert_eq!((early, late), (vec![], vec![]), "an hour has not passed");
    assert!(last[0].0 < 1500.0 && last[0].1 == 10, "{last:?}");
}

#[test]
fn rescale_and_restarted_worker_discard_the_window() {
    for what in ["nothing", "rescale", "restart"] {
        let (mut rule, mut scene) = (rule(Options::DOCUMENTED), Scene::new(10, 120));
        (scene.busy, scene.rate) = (0.9, 900.0); // outside the example's band
        assert_eq!(watch(&mut rule, &mut scene, 300), [], "not full");
        let answers = match what {
            "rescale" => {
                scene.resize(11);
                watch(&mut rule, &mut scene, 300)
            }
            "restart" => {
                let mut observation = scene.pass(10.0);
                observation.workers[3].started_at = Some(observation.at);
                assert_eq!(rule.decide(&observation), None);
                watch(&mut rule, &mut scene, 300)
            }
            _ => watch(&mut rule, &mut scene, 300),
        };
        assert_eq!(answers.is_empty(), what != "nothing", "{what}: {answers:?}");
    }
}

#[test]
fn holds_without_counters_and_ignores_missing_lag() {
    let (mut held, mut blind) = (rule(Options::MINUTE), rule(Options::MINUTE));
    let mut scene = Scene::new(10, 120);
    (scene.busy, scene.rate) = (1.0, 1000.0);
    for _ in 0..180 {
        scene.lag += 50_000;
        let mut observation = scene.pass(10.0);
        let mut silent = observation.clone();
        silent.workers[2].busy_seconds = None;
        assert_eq!(held.decide(&silent), None, "not every worker says how busy it is");
        observation.partitions.clear();
        assert_eq!(blind.decide(&observation), None, "a missing lag is taken for 0: inside the band");
    }
}

#[test]
fn lag_of_half_a_minute_prefers_the_observed_rate() {
    let (mut rule, mut scene) = (rule(Options::MINUTE), Scene::new(20, 120));
    (scene.busy, scene.rate) = (0.2, 400.0);
    scene.lag = 8000 * 29;
    assert_eq!(watch(&mut rule, &mut scene, 300), [], "8,000 a second at 20 %: too many, and down waits");
    scene.lag = 8000 * 60;
    let answers = watch(&mut rule, &mut scene, 300);
    // 267 to catch up, 1,333 for the restart, 11,429 for the load, of 8,000: 33 of 20, aligned to 120 partitions.
    assert!(answers.iter().any(|a| a.1 == 40) && answers.iter().all(|a| a.1 > 20), "{answers:?}");
}
