//! Tests of [`super`].

use super::*;

fn point(at: f64, replicas: u32) -> Point {
    Point { at, replicas: Some(replicas), ..Point::default() }
}

pub(crate) fn run() -> Run {
    Run {
        job: "orders".into(),
        load: "a test".into(),
        target: Target { latency_seconds: 10.0, share: 0.99 },
        produced: Some(10_000),
        uncommitted: Some(0),
        work: Work {
            workers: 3,
            processed: 10_000,
            in_time: 9_950,
            skipped: 0,
            busy_seconds: 20.0,
            latency_buckets_milliseconds: vec![
                (Some(100.0), 6_000),
                (Some(1000.0), 3_800),
                (Some(10_000.0), 150),
                (None, 50),
            ],
        },
        points: vec![
            point(-5.0, 9),
            point(0.0, 1),
            point(10.0, 2),
            Point { at: 15.0, ..Point::default() },
            point(20.0, 4),
        ],
        changes: vec![Change {
            at: 8.0,
            from: 1,
            to: 2,
            reason: "Growth".into(),
            bound_by: "Objective".into(),
            message: "1 -> 2: 700/s arriving and growing; 1 worker does 500/s".into(),
        }],
    }
}

#[test]
fn quantile_is_the_upper_bound_of_its_bucket() {
    let work = run().work;
    let quantiles = [0.6, 0.61, 0.99, 0.995, 0.999].map(|share| work.quantile_seconds(share));
    assert_eq!(quantiles, [Some(0.1), Some(1.0), Some(10.0), Some(10.0), None]);
    assert_eq!(Work::default().quantile_seconds(0.5), None);
    assert_eq!((work.within(10_000.0), work.within(100.0)), (9_950, 6_000));
}

#[test]
fn conclusions_follow_from_the_counts() {
    let report = RunReport::from_run(run());
    assert!(report.met, "{:?}", report.missed);
    assert_eq!((report.share, report.lost, report.duplicates), (Some(0.995), Some(0), Some(0)));
    assert_eq!(report.capacity_per_worker, Some(500.0));
    // 10 s with one worker, 5 s with two and 5 s with an unknown number, which is still two.
    assert!((report.worker_seconds - 30.0).abs() < 1e-9, "{}", report.worker_seconds);
    assert_eq!(report.ideal_worker_seconds, Some(20.0));
    assert_eq!(report.cost_ratio, Some(1.5));
    assert!((report.fixed_worker_seconds - 80.0).abs() < 1e-9, "{}", report.fixed_worker_seconds);
}

#[test]
fn undecodable_records_are_late_and_not_lost() {
    let mut poisoned = run();
    poisoned.work = Work { processed: 9_998, skipped: 2, ..poisoned.work };
    let report = RunReport::from_run(poisoned);
    assert_eq!((report.met, report.lost, report.share), (true, Some(0), Some(0.995)));
    assert!(report.verdict().ends_with("and none were lost; 2 could not be decoded."), "{}", report.verdict());
}

#[test]
fn report_of_a_good_run() {
    let text = "\
Met the target: 99.5% of 10,000 records were processed within 10s (target 99%), and none were lost.

records    10,000 produced, 10,000 processed by 3 workers; none lost, none processed twice
latency    99.5% within 10s; p50 <= 100ms, p95 <= 1s, p99 <= 10s
workers    30 worker-seconds, 1.50 times the 20 that the records needed at 500/s per worker
           between 1 and 4 workers; 4 all the time would have used 80 worker-seconds; 62.5% saved

TIME  CHANGE  REASON  MESSAGE
  8s  1 -> 2  Growth  700/s arriving and growing; 1 worker does 500/s
";
    assert_eq!(RunReport::from_run(run()).text(None), text);
}

#[test]
fn narrow_terminals_get_shorter_lines() {
    let text = RunReport::from_run(run()).text(Some(60));
    let below_verdict: Vec<&str> = text.lines().skip(1).collect();
    assert!(below_verdict.iter().all(|line| line.chars().count() <= 60), "{text}");
}

#[test]
fn late_and_lost_records_are_distinguished() {
    let mut late = run();
    late.work.in_time = 9_000;
    assert_eq!(
        RunReport::from_run(late).verdict(),
        "Missed the target: 90% of the records were processed within 10s, where 99% should have been."
    );

    let mut lost = run();
    lost.work.processed = 9_999;
    let report = RunReport::from_run(lost);
    assert_eq!(report.verdict(), "Missed the target: 1 of 10,000 records were never processed.");
    assert_eq!(report.lost, Some(1));
}

#[test]
fn records_that_were_never_processed_are_late() {
    let mut run = run();
    run.work.processed = 5_000;
    run.work.in_time = 5_000;
    assert_eq!(RunReport::from_run(run).share, Some(0.5));
}

#[test]
fn duplicates_are_neither_failure_nor_gain() {
    let mut run = run();
    run.work.processed = 10_100;
    run.work.in_time = 10_050;
    let report = RunReport::from_run(run);
    assert!(report.met);
    assert_eq!(report.duplicates, Some(100));
    assert!(report.text(None).contains("none lost, 100 processed twice"));
}

#[test]
fn duplicates_do_not_hide_losses() {
    let mut run = run();
    run.work.processed = 10_100;
    run.work.in_time = 10_050;
    run.uncommitted = Some(7);
    assert_eq!(RunReport::from_run(run).verdict(), "Missed the target: 7 of 10,000 records were never processed.");
}

#[test]
fn missing_reports_are_not_success() {
    let silent = Run { work: Work::default(), ..run() };
    let report = RunReport::from_run(silent);
    assert!(!report.met);
    assert_eq!(report.share, None);
    assert!(
        report.missed.contains(&"the workers did not report what they processed".to_owned()),
        "{:?}",
        report.missed
    );

    let idle = Run { produced: Some(0), work: Work::default(), points: Vec::new(), changes: Vec::new(), ..run() };
    let report = RunReport::from_run(idle);
    assert_eq!(report.verdict(), "Missed the target: no record was produced, so nothing was measured.");
    assert!(report.text(None).ends_with("No decision changed the replica count.\n"));

    for unknown in [Run { produced: None, ..run() }, Run { uncommitted: None, ..run() }] {
        assert_eq!(
            RunReport::from_run(unknown).verdict(),
            "Missed the target: the brokers did not report whether every record was processed."
        );
    }
}

#[test]
fn quantiles_are_upper_bounds() {
    let buckets = [(Some(10.0), 0), (Some(20.0), 98), (Some(500.0), 1), (None, 1)];
    let at = |share| quantile(&buckets, share);
    assert_eq!((at(0.5), at(0.99), at(0.999)), ("<= 20ms".into(), "<= 500ms".into(), "> 500ms".into()));
    assert_eq!(quantile(&[], 0.5), "?");
}

#[test]
fn json_holds_the_run_and_its_conclusions() {
    let report = RunReport::from_run(run());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["costRatio"], 1.5);
    assert_eq!(json["work"]["inTime"], 9950);
    assert_eq!(json["changes"][0]["boundBy"], "Objective");
    assert_eq!(serde_json::from_value::<RunReport>(json).unwrap(), report);
}

#[test]
fn exact_numbers_are_grouped() {
    let words: Vec<String> = [0, 7, 999, 1000, 123_456, 1_234_567].map(whole).to_vec();
    assert_eq!(words, ["0", "7", "999", "1,000", "123,456", "1,234,567"]);
}
