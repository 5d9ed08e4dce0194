//! Reports of made-up runs, from the numbers to the files that `sluice demo` writes. The plots stay in cargo's folder
//! for tests, where they can be viewed.

use std::f64::consts::TAU;
use std::path::Path;

use sluice_report::compare::{self, Comparison, Policy};
use sluice_report::plot;
use sluice_report::run::{Change, Point, Run, RunReport, Target, Work};

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
            capacity: running.then(|| 400.0 * f64::from(existing)),
            lag: running.then_some(900.0),
            // A gap, as when the operator's metrics page does not respond.
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
            skipped: 0,
            busy_seconds: 1000.0,
            latency_buckets_milliseconds: vec![(Some(1000.0), 300_000), (Some(5000.0), 149_000), (None, 1_020)],
        },
        points,
        changes,
    }
}

#[test]
fn run_becomes_a_text_and_a_plot() {
    let report = RunReport::from_run(made_up());
    assert!(report.met, "{:?}", report.missed);
    assert!(report.cost_ratio.is_some_and(|ratio| (1.0..2.0).contains(&ratio)), "{:?}", report.cost_ratio);

    let svg = plot::svg(&report).expect("the plot can be drawn");
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.svg"), &svg).expect("the plot can be written");

    let text = report.text(Some(100));
    assert!(text.starts_with("Met the target: 99.95% of 450,000 records"), "{text}");
    assert!(text.lines().count() > 10, "{text}");
}

/// Returns a policy with one worker for each `per_worker` records per second of the load `late` seconds ago.
fn policy(name: &str, load: &[(f64, f64)], per_worker: f64, late: usize) -> Policy {
    let (mut points, mut changes): (Vec<Point>, Vec<Change>) = (Vec::new(), Vec::new());
    let mut lag = 0.0_f64;
    for (index, (at, rate)) in load.iter().enumerate() {
        let seen = load[index.saturating_sub(late)].1;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few dozen")]
        let workers = (seen / per_worker).ceil().max(1.0) as u32;
        lag = (lag + 60.0 * (rate - 1000.0 * f64::from(workers))).max(0.0);
        if let Some(before) = points.last().and_then(|point| point.replicas).filter(|before| *before != workers) {
            changes.push(Change {
                at: *at,
                from: before,
                to: workers,
                reason: "Growth".into(),
                bound_by: "Objective".into(),
                message: String::new(),
            });
        }
        points.push(Point {
            at: *at,
            lag: Some(lag),
            latency: Some(0.8 + lag / rate.max(1.0)),
            replicas: Some(workers),
            ..Point::default()
        });
    }
    let worker_hours: f64 = points.iter().filter_map(|point| point.replicas).map(f64::from).sum::<f64>() / 60.0;
    let summary = format!("{worker_hours:.0} worker-hours, {} changes", changes.len());
    Policy { name: name.into(), summary, points, changes }
}

#[test]
fn policies_are_compared_in_a_plot() {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/traces/real_flash_wc98_semifinal_24h.csv");
    let mut load = sluice_simulate::trace::read(&trace, sluice_simulate::trace::Gaps::Refused).expect("a trace");
    sluice_simulate::trace::scale_to(&mut load, 16_000.0);
    let comparison = Comparison {
        title: "orders under real_flash_wc98_semifinal_24h, up to 16k/s".into(),
        target: Target { latency_seconds: 10.0, share: 0.99 },
        policies: vec![
            policy("sluice", &load, 800.0, 0),
            policy("hpa-70", &load, 700.0, 3),
            policy("keda", &load, 950.0, 5),
            policy("static-best", &load.iter().map(|(at, _)| (*at, 15_000.0)).collect::<Vec<_>>(), 1000.0, 0),
        ],
        load,
    };
    let svg = compare::svg(&comparison).expect("the plot can be drawn");
    assert!(svg.len() < 600_000, "{} bytes", svg.len());
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare.svg"), &svg).expect("the plot can be written");
}
