//! Law 8. **Voluntary scale-down** happens only if records are young, and makes no more of them late than staying and
//! the error budget together.

use proptest::prelude::*;

use super::cases;
use super::moments::{MOMENTS, degrade, fall_behind, moment, ripe, ripen};
use crate::model::attainment::Attainment;
use crate::model::durations::LearnedDuration;
use crate::plant::Plant;
use crate::{Action, Decision, Reason, decide};
use sluice_base::units::Seconds;

proptest! {
    #![proptest_config(cases())]

    /// Law 8.
    #[test]
    fn scale_down_needs_young_records(plant in moment(), backlog in 0..1200_i64, stale in 0..5_u32) {
        let mut observation = plant.observation();
        fall_behind(&mut observation, 0, backlog);
        if stale == 0 { degrade(&mut observation, 1 << 10, plant.now); }
        let decision = decide(&mut plant.memory.clone(), &observation, &plant.settings);
        if decision.action == Action::Down && decision.reason == Reason::LowerDemand {
            prop_assert!(decision.explain.time_lag_seconds.unwrap() < 3.0, "{decision:?}");
            prop_assert!(stale > 0);
            prop_assert!(decision.desired >= decision.explain.not_fewer);
        }
    }

    /// Law 8.
    #[test]
    fn scale_down_is_paid_from_the_error_budget(
        plant in ripe(),
        handover in 0.0..60.0_f64,
        latency in 2.0..60.0_f64,
        percentile in 0.9..0.9999_f64,
        due in 0.0..1e7_f64,
        spent in 0.0..1.5_f64,
    ) {
        let plant = short_of_budget(plant, handover, (latency, percentile), (due, spent));
        let budget = due * (1.0 - percentile) * (1.0 - spent);
        let decision = decide(&mut plant.memory.clone(), &plant.observation(), &plant.settings);
        if decision.action == Action::Down && decision.reason == Reason::LowerDemand {
            let (fewer, staying) = late(&plant, &decision, handover);
            // Observations are exact to one record.
            prop_assert!(fewer <= staying + budget.max(0.0) + 1.0, "{fewer} late, {staying} by staying, {budget}: {decision:?}");
        }
    }
}

/// Returns the same job with another objective and handover time, and with a part of the error budget spent.
fn short_of_budget(mut plant: Plant, handover: f64, objective: (f64, f64), (due, spent): (f64, f64)) -> Plant {
    (plant.settings.latency, plant.settings.percentile) = (Seconds(objective.0), objective.1);
    plant.memory.durations.handover = LearnedDuration::with_prior(handover);
    plant.memory.attainment = Attainment::default();
    let late = due * (1.0 - objective.1) * spent;
    plant.memory.attainment.record_due(plant.now - 60.0, plant.settings.window.0, due, late);
    plant
}

/// Returns the records that are late within the reaction time under the upper demand: with the decided workers, all of
/// whose partitions stop for the handover, and with the present ones. The queue is simulated in steps, independently of
/// the formula in the code.
fn late(plant: &Plant, decision: &Decision, handover: f64) -> (f64, f64) {
    const STEP: f64 = 0.05;
    let (demand, age) = (decision.explain.demand.unwrap(), decision.explain.time_lag_seconds.unwrap());
    // A worker whose capacity is not known is assumed to process a third more than was observed.
    let known = decision.explain.model.capacity_per_worker;
    let mu = known.unwrap_or_else(|| 1.35 * plant.memory.capacity.at_least().unwrap());
    let horizon = plant.memory.reaction();
    let latency = plant.settings.latency.0;
    let follow = |workers: u32, pause: f64| {
        let capacity = mu / plant.memory.stairs.share(workers);
        let (mut now, mut done, mut late) = (0.0, 0.0, 0.0);
        // Record x arrives at x / demand - age: the waiting records came evenly.
        while now < horizon + pause {
            now += STEP;
            let there = demand * (now + age);
            let before: f64 = done;
            if now > pause {
                done = (done + capacity * STEP).min(there);
            }
            let overdue = (demand * (now - latency + age)).min(done);
            late += (overdue - before).max(0.0);
        }
        // Records that are still waiting and are late.
        late + (demand * (now - latency + age) - done).max(0.0)
    };
    (follow(decision.desired.unwrap(), handover), follow(plant.desired, 0.0))
}

/// Law 8. The property above is not vacuous: such scale-downs occur, and the budget decides about them.
#[test]
fn error_budget_decides_about_scale_downs() {
    let downs = |handover: f64, spent: f64| {
        let down = |plant: &&Plant| {
            let plant = short_of_budget(ripen((*plant).clone(), 3), handover, (10.0, 0.99), (1e7, spent));
            let decision = decide(&mut plant.memory.clone(), &plant.observation(), &plant.settings);
            decision.reason == Reason::LowerDemand && decision.explain.demand > Some(0.0)
        };
        MOMENTS.iter().filter(down).count()
    };
    let (rich, poor, cheap) = (downs(12.0, 0.0), downs(12.0, 1.0), downs(1.0, 1.0));
    assert!(rich >= 10 && cheap >= 10, "{rich} with a budget, {cheap} whose handover is short");
    assert_eq!(poor, 0, "no budget is left, and the handover alone is longer than the objective");
}
