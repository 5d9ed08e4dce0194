//! A report of a made-up run, from the numbers to the files that `sluice demo` writes. The plot stays in cargo's
//! folder for tests, so that it can be looked at.

use std::f64::consts::TAU;
use std::path::Path;

use sluice::report::plot;
use sluice::report::run::{Change, Point, Run, RunReport, Target, Work};

/// Two waves of load; the workers follow a little late.
fn made_up() -> Run {
    let load = |at: f64| 1500.0 - 1200.0 * (at / 150.0 * TAU).cos();
    let need = |at: f64| (load((at - 4.0).clamp(0.0, 300.0)) / 400.0).ceil().clamp(1.0, 20.0);
    let mut points: Vec<Point> = Vec::new();
    let mut changes: Vec<Change> = Vec::new();
    for second in -5_i32..310 {
        let at = f64::from(second);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 20")]
        let (desired, existing) = (need(at) as u32, need(at - 3.0) as u32);
        if let Some(before) = points.last().and_then(|point| point.desired).filter(|before| *before != desired) {
            changes.push(Change {
                at,
                from: before,
                to: desired,
                reason: if desired > before { "Growth" } else { "LowerDemand" }.into(),
                bound_by: "Objective".into(),
                message: format!("{before} -> {desired}: as many as {:.0}/s take", load(at)),
            });
        }
        let running = (0.0..300.0).contains(&at);
        points.push(Point {
            at,
            rate: running.then(|| load(at)),
            lag: running.then_some(900.0),
            // A gap, as when the operator's page does not answer.
            latency: (at > 3.0 && !(100.0..108.0).contains(&at)).then(|| 1.5 + 3.0 * (at / 40.0).sin().abs()),
            desired: Some(desired),
            replicas: Some(existing),
            ready: Some(existing),
        });
    }
    Run {
        job: "orders".into(),
        load: "two waves of load in 5 minutes".into(),
        target: Target { latency_seconds: 10.0, share: 0.99 },
        produced: Some(450_000),
        uncommitted: Some(0),
        work: Work {
            workers: 14,
            processed: 450_020,
            in_time: 449_800,
            busy_seconds: 1000.0,
            latency_buckets_milliseconds: vec![(Some(1000.0), 300_000), (Some(5000.0), 149_000), (None, 1_020)],
        },
        points,
        changes,
    }
}

#[test]
fn a_run_becomes_a_text_and_a_picture() {
    let report = RunReport::of(made_up());
    assert!(report.met, "{:?}", report.missed);
    assert!(report.cost_ratio.is_some_and(|ratio| (1.0..2.0).contains(&ratio)), "{:?}", report.cost_ratio);

    let svg = plot::svg(&report).expect("the plot can be drawn");
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.svg"), &svg).expect("the plot can be written");

    let text = report.text(Some(100));
    assert!(text.starts_with("Met the target: 99.95% of 450,000 records"), "{text}");
    assert!(text.lines().count() > 10, "{text}");
}
