//! Faults that Sluice must handle: a row for each, with what its decisions must report and what they must not do.
//!
//! A fault lasts from minute 10 to minute 20 unless the row states otherwise. Each row is a test of its name; a test
//! that fails prints every change that was made. `SLUICE_SCENE_SEEDS=5` runs each with five seeds.

use super::super::{During, Handover, Once};
use super::scene::Expected::{Limit, Reason};
use super::scene::{FROM, during, under};
use sluice_policy::Limit::{CrashLooping, ExternalBottleneck, PartitionStuck, QuotaExceeded, Skewed, Unschedulable};
use sluice_policy::Reason::{NoSignal, Stalled};

macro_rules! scenes {
    ($($name:ident: $scene:expr;)*) => {$(
        #[test]
        fn $name() {
            let wrong = $scene.wrong();
            assert!(wrong.is_empty(), "{}: {wrong}", stringify!($name));
        }
    )*};
}

const LEVEL: &str = "constant(6k,30m)";
const RISING: &str = "constant(4k,10m) | ramp(4k,9k,15m) | constant(9k,5m)";
const GENTLE: &str = "constant(4k,10m) | ramp(4k,6k,20m)";
const FALLING: &str = "constant(9k,10m) | ramp(9k,4k,15m) | constant(4k,5m)";

scenes! {
    nothing_is_wrong: under(LEVEL).ups(1).downs(1).workers(9);
    the_load_rises: under(RISING).workers(16);

    // Partitions.
    skew: under(RISING).job(|job| job.weight_sigma = 0.6);
    one_hot_partition: under(LEVEL).job(|job| job.hot_share = Some(0.25)).reports(Limit(Skewed), 0.0).still_reported().ups(1)
        .workers(32).late(0.4);
    a_stuck_partition: under(LEVEL).fault(|f| f.stuck = during(5)).reports(Limit(PartitionStuck), 80.0).workers(10)
        .late(0.02);

    // Faults that more workers do not fix.
    an_external_bottleneck: under(LEVEL).until(900.0)
        .fault(|f| f.bottleneck = Some(During::new(FROM, 900.0, 4500.0))).reports(Limit(ExternalBottleneck), 90.0).ups(1)
        .left(8).late(1.0);
    workers_that_do_nothing: under(LEVEL).fault(|f| f.bottleneck = during(0.0)).reports(Reason(Stalled), 60.0).ups(1)
        .downs(0).late(1.0);
    a_crash_loop: under(RISING).fault(|f| f.crash_loop = during(3)).reports(Limit(CrashLooping), 60.0).ups(0).downs(0)
        .late(1.0);
    pods_without_a_node: under(RISING).fault(|f| f.unschedulable = during(6)).reports(Limit(Unschedulable), 300.0).ups(2)
        .downs(0).late(1.0);
    a_quota: under(RISING).fault(|f| f.quota = during(6)).reports(Limit(QuotaExceeded), 360.0).downs(0).left(6).late(1.0);

    // Signals.
    the_source_is_silent: under(LEVEL).fault(|f| f.outage = during(())).reports(Reason(NoSignal), 30.0).ups(0)
        .none_after().downs(0);
    the_source_is_silent_while_the_load_falls: under(FALLING).fault(|f| f.outage = during(()))
        .reports(Reason(NoSignal), 30.0).ups(0).none_after().downs(3);
    half_of_the_partitions_are_missing: under(LEVEL).fault(|f| f.partial = during(0.5)).reports(Reason(NoSignal), 30.0)
        .ups(0).none_after().downs(0);
    half_of_the_partitions_are_missing_while_the_load_rises: under(RISING).fault(|f| f.partial = during(0.5)).downs(0)
        .workers(16);
    counters_are_missing: under(LEVEL).fault(|f| f.workers_missing = during(())).reports(Reason(NoSignal), 30.0).ups(0)
        .none_after().downs(0);
    counters_are_missing_while_the_load_rises: under(RISING).fault(|f| f.workers_missing = during(())).downs(0)
        .workers(16);
    counters_stand_still: under(LEVEL).fault(|f| f.workers_frozen = during(())).ups(0).none_after().downs(0);
    counters_stand_still_while_the_load_falls: under(FALLING).fault(|f| f.workers_frozen = during(())).ups(0)
        .none_after();
    samples_are_a_minute_old: under(LEVEL).fault(|f| f.staleness = 60.0).reports(Reason(NoSignal), 60.0).still_reported()
        .ups(0).downs(0);
    a_fifth_of_the_samples_is_lost: under(LEVEL).fault(|f| f.dropped = 0.2).ups(0).downs(1);
    commits_make_a_saw_tooth: under(LEVEL).job(|job| (job.position, job.commit_every) = (false, 5.0)).ups(0).downs(1);
    commits_are_rarer_than_the_objective: under(LEVEL).job(|job| (job.position, job.commit_every) = (false, 15.0))
        .ups(0).downs(1);

    // Workers.
    // The first start-up time is not known before: 1 % may be late.
    workers_start_within_180_s: under(GENTLE).job(|job| job.start_up = 180.0).workers(10).late(1.5);
    workers_are_noisy: under(LEVEL).job(|job| (job.speed_spread, job.speed_noise) = (0.1, 0.1)).ups(2).downs(2)
        .workers(12);
    a_worker_dies_and_is_missed_for_7_s: under(LEVEL).fault(|f| f.kill_every = Some(630.0)).ups(1).workers(10)
        .handover(12.0);
    a_worker_dies_and_is_missed_for_41_s: under(LEVEL).job(|job| job.crash_handover = 41.0)
        .fault(|f| f.kill_every = Some(630.0)).ups(2).workers(12).handover(12.0).late(0.03);
    a_node_takes_a_third_of_the_workers: under(LEVEL).fault(|f| f.node_loss = Some(Once { at: 630.0, value: 0.33 }))
        .ups(4).workers(12).late(0.05);
    a_new_version_does_less: under(LEVEL).fault(|f| f.deploy = Some(Once { at: 630.0, value: 0.6 })).workers(24)
        .late(0.05).capacity(500.0, 700.0);
    a_new_version_does_more: under(LEVEL).fault(|f| f.deploy = Some(Once { at: 630.0, value: 1.5 }))
        .ups(0).capacity(1350.0, 1650.0);

    // Expensive changes.
    a_handover_takes_30_s_and_the_objective_is_a_minute: under(RISING)
        .job(|job| (job.handover, job.latency) = (Handover::Handoff(30.0), 60.0)).workers(16);
    a_restart_takes_10_s_and_the_objective_is_half_a_minute: under(GENTLE)
        .job(|job| (job.handover, job.latency) = (Handover::Restart(10.0), 30.0)).workers(10);
    a_handover_takes_30_s_and_nothing_changes: under(LEVEL).job(|job| job.handover = Handover::Handoff(30.0)).ups(0)
        .downs(0);
    a_handover_takes_60_s_and_nothing_changes: under(LEVEL).job(|job| job.handover = Handover::Handoff(60.0)).ups(0)
        .downs(0);
    a_restart_takes_30_s_and_nothing_changes: under(LEVEL).job(|job| job.handover = Handover::Restart(30.0)).ups(0)
        .downs(0);
    a_restart_takes_60_s_and_nothing_changes: under(LEVEL).job(|job| job.handover = Handover::Restart(60.0)).ups(0)
        .downs(0);

    // Time.
    the_operator_is_restarted: under(RISING).fault(|f| f.restart_at = Some(900.0)).downs(0).workers(16);
    counters_stand_still_while_the_load_rises: under(RISING).fault(|f| f.workers_frozen = during(())).downs(0)
        .workers(14);
    a_handover_takes_60_s_and_the_objective_is_a_minute: under(GENTLE)
        .job(|job| (job.handover, job.latency) = (Handover::Handoff(60.0), 60.0)).workers(16);
    a_restart_takes_10_s: under(RISING).job(|job| (job.handover, job.latency) = (Handover::Restart(10.0), 30.0))
        .workers(16);
}
