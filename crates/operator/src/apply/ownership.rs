//! Ownership of a workload's replica count: how Sluice takes the field over step by step, and what it does when another
//! writer changes it. Pure: time is an argument.
//!
//! A workload's first apply contains `replicas`. Next, `sluice/scale` applies the same number to /scale. Only when
//! managedFields shows that `sluice/scale` owns the field does `sluice/workload` leave it out: an apply without the
//! field drops the count to 1 if no other manager owns it (tried on a real 1.34 server).

use sluice_base::units::Seconds;
use sluice_policy::Mode;

use crate::apply::writer::ScaleWrite;
use crate::observe::workload::WorkloadView;
use crate::validate::{Job, Target};

/// Time for which a number that another writer has written is left unchanged.
const RESPECTED: Seconds = Seconds(600.0);
/// Two foreign writes within this time are a conflict, which the user must resolve.
const CONFLICT_WINDOW: Seconds = Seconds(1800.0);

/// The next change of a workload's replica count or of its ownership. Each step is decided from a fresh read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The replica count and its ownership are as they should be.
    Nothing,
    /// Write the replica count, through /scale.
    Scale(ScaleWrite),
    /// Apply the workload without the field, which `sluice/scale` owns, so that it has one owner.
    Release,
}

/// The user's latest intent. A different intent is a newer one, and overrides foreign writes before it. Intents are
/// compared for equality only, because the clocks of the user and of the operator need not agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UserIntent {
    /// Generation of the job's spec.
    pub(crate) generation: Option<i64>,
    /// Value of the annotation that `sluice resume` writes on the job.
    pub(crate) resume: Option<String>,
}

/// What is remembered of the ownership of one workload's replica count.
#[derive(Debug, Default)]
pub(crate) struct ReplicasOwnership {
    foreign_writes: ForeignWrites,
    /// Name of the other writer, as far as managedFields or a refused apply reveals it.
    foreign_writer: Option<String>,
    /// Sluice has taken over the replica count of a `targetRef`.
    has_taken_over: bool,
    /// Replica count that this run of the operator wrote last.
    last_written: Option<u32>,
    /// The replica count was not 0 when last observed, and Sluice has not written 0 since. A 0 without an owner is then
    /// a foreign write.
    zero_is_foreign: bool,
}

impl ReplicasOwnership {
    /// Takes in an observation of the workload, and returns whether Sluice may write its replica count.
    pub(crate) fn observe(&mut self, job: &Job, view: &WorkloadView, now: Seconds) -> OwnershipState {
        let owners = &view.owners;
        self.has_taken_over |= owners.scale;
        let zero = view.desired == Some(0);
        self.zero_is_foreign |= !zero;
        let is_existing = matches!(job.target, Target::Existing { .. });
        let foreign = match job.target {
            // A 0 that Sluice wrote has no owner either: an apply of 0 on /scale leaves the field out.
            _ if zero && !self.zero_is_foreign => false,
            Target::Owned(_) => !owners.scale && !owners.workload,
            // The number that Sluice wrote last is its own, even if another manager owns the field without having
            // changed it.
            Target::Existing { .. } => self.has_taken_over && !owners.scale && view.desired != self.last_written,
        };
        if let Some(other) = owners.others.first() {
            self.foreign_writer = Some(other.clone());
        } else if !foreign {
            self.foreign_writer = None;
        }
        let foreign = foreign || self.foreign_writer.is_some() && !is_existing;
        let intent = UserIntent { generation: job.generation, resume: job.resume.clone() };
        self.foreign_writes.observe(foreign, view.desired, &intent, now)
    }

    /// Returns the next step towards `desired`.
    pub(crate) fn next_step(
        &self,
        job: &Job,
        view: &WorkloadView,
        desired: Option<u32>,
        ownership: OwnershipState,
    ) -> Step {
        match &job.target {
            Target::Owned(_) => next_step(view, desired, ownership),
            Target::Existing { .. } if job.settings.mode == Mode::Recommend => Step::Nothing,
            Target::Existing { .. } => next_step_of_existing(view, desired, ownership, self.has_taken_over),
        }
    }

    /// Records that the API server refused an apply because `manager` owns the field.
    pub(crate) fn record_conflict(&mut self, manager: String) {
        self.foreign_writer = Some(manager);
    }

    /// Records a write that succeeded.
    pub(crate) fn record_write(&mut self, write: &ScaleWrite) {
        self.has_taken_over = true;
        self.last_written = Some(write.replicas);
        self.zero_is_foreign = write.replicas > 0;
        if write.force {
            self.foreign_writer = None;
        }
    }

    /// Returns the name of the other writer, if it is known.
    pub(crate) fn foreign_writer(&self) -> Option<&str> {
        self.foreign_writer.as_deref()
    }
}

/// Foreign writes to one workload's replica count.
#[derive(Debug, Clone, Default, PartialEq)]
struct ForeignWrites {
    /// The write that is left unchanged now.
    current: Option<ForeignWrite>,
    /// Times of the foreign writes within `CONFLICT_WINDOW`.
    recent: Vec<Seconds>,
    /// Two foreign writes happened within `CONFLICT_WINDOW`, and the user's intent has not changed since.
    conflict: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct ForeignWrite {
    /// Time of the first observation.
    at: Seconds,
    /// The replica count that was written.
    number: Option<u32>,
    /// The user's intent at that time.
    intent: UserIntent,
}

/// Whether Sluice may write the replica count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum OwnershipState {
    /// No other writer has changed it.
    Ours,
    /// Another writer has changed it; Sluice leaves it unchanged until this time.
    Respected { until: Seconds },
    /// That time is over, or the user's intent has changed: Sluice restores its own number.
    TakeBack,
    /// Another writer has changed it twice within 30 minutes; the user must resolve the conflict.
    Conflict,
}

impl ForeignWrites {
    /// Takes in an observation. `is_foreign`: neither of Sluice's managers owns the field; `written`: the replica
    /// count.
    fn observe(&mut self, is_foreign: bool, written: Option<u32>, intent: &UserIntent, now: Seconds) -> OwnershipState {
        self.recent.retain(|at| now - *at < CONFLICT_WINDOW);
        if !is_foreign {
            self.current = None;
            return OwnershipState::Ours;
        }
        if self.current.as_ref().is_some_and(|current| current.intent != *intent) {
            // The user's intent has changed since, which ends a conflict.
            self.recent.clear();
            self.conflict = false;
            return OwnershipState::TakeBack;
        }
        let since = match &self.current {
            Some(current) if current.number == written => current.at,
            _ => {
                self.recent.push(now);
                self.current = Some(ForeignWrite { at: now, number: written, intent: intent.clone() });
                now
            }
        };
        self.conflict |= self.recent.len() >= 2;
        if self.conflict {
            return OwnershipState::Conflict;
        }
        let until = since + RESPECTED;
        if now < until { OwnershipState::Respected { until } } else { OwnershipState::TakeBack }
    }
}

/// Returns the next step for a workload of the job's own. `desired`: the replica count wanted; `None`: keep the current
/// one.
fn next_step(view: &WorkloadView, desired: Option<u32>, ownership: OwnershipState) -> Step {
    let owners = &view.owners;
    let write = |replicas, force| {
        Step::Scale(ScaleWrite {
            replicas,
            uid: view.uid.clone(),
            resource_version: view.resource_version.clone(),
            force,
        })
    };
    match (ownership, view.desired, desired) {
        (OwnershipState::Ours | OwnershipState::TakeBack, ..) if owners.workload && owners.scale => Step::Release,
        // Another applier of the same number stays co-owner however often Sluice applies it, and an apply of 0 on
        // /scale owns nothing.
        (OwnershipState::TakeBack, present, desired)
            if (owners.scale || present == Some(0)) && desired.is_none_or(|desired| present == Some(desired)) =>
        {
            Step::Nothing
        }
        (OwnershipState::TakeBack, present, desired) => {
            desired.or(present).map_or(Step::Nothing, |replicas| write(replicas, true))
        }
        // An apply of 0 on /scale owns nothing (the field is left out), so a 0 is taken over with the first other
        // number.
        (OwnershipState::Ours, Some(0), desired) if owners.workload && !owners.scale => {
            desired.filter(|desired| *desired > 0).map_or(Step::Nothing, |desired| write(desired, true))
        }
        // `sluice/workload` owns the field since the first apply: take it over at its current value, then release it
        // there.
        (OwnershipState::Ours, Some(present), _) if owners.workload && !owners.scale => write(present, false),
        (OwnershipState::Ours, present, Some(desired)) if present != Some(desired) => write(desired, owners.shared),
        (OwnershipState::Ours | OwnershipState::Respected { .. } | OwnershipState::Conflict, ..) => Step::Nothing,
    }
}

/// Returns the next step for an existing workload. Sluice writes nothing before the replica count has to change, so
/// that mode Recommend leaves no trace. The first change takes the field from its owner.
fn next_step_of_existing(
    view: &WorkloadView,
    desired: Option<u32>,
    ownership: OwnershipState,
    has_taken_over: bool,
) -> Step {
    match (ownership, desired) {
        (OwnershipState::Ours | OwnershipState::TakeBack, Some(desired)) if view.desired != Some(desired) => {
            Step::Scale(ScaleWrite {
                replicas: desired,
                uid: view.uid.clone(),
                resource_version: view.resource_version.clone(),
                force: !has_taken_over || view.owners.shared || ownership == OwnershipState::TakeBack,
            })
        }
        _ => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::workload::ReplicasOwners;

    fn view(desired: u32, workload: bool, scale: bool) -> WorkloadView {
        WorkloadView {
            uid: "u".to_owned(),
            resource_version: "7".to_owned(),
            desired: Some(desired),
            owners: ReplicasOwners { workload, scale, ..ReplicasOwners::default() },
            ..WorkloadView::default()
        }
    }

    fn scale(step: Step) -> (u32, bool) {
        match step {
            Step::Scale(write) => (write.replicas, write.force),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ownership_is_taken_at_the_current_value_then_released() {
        assert_eq!(scale(next_step(&view(6, true, false), Some(9), OwnershipState::Ours)), (6, false));
        assert_eq!(next_step(&view(6, true, true), Some(9), OwnershipState::Ours), Step::Release);
        assert_eq!(scale(next_step(&view(6, false, true), Some(9), OwnershipState::Ours)), (9, false));
        assert_eq!(next_step(&view(9, false, true), Some(9), OwnershipState::Ours), Step::Nothing);
        assert_eq!(next_step(&view(9, false, true), None, OwnershipState::Ours), Step::Nothing);
    }

    #[test]
    fn restoring_an_unchanged_count_writes_once() {
        let mut before = view(3, false, false);
        before.owners.others.push("flux".to_owned());
        assert_eq!(scale(next_step(&before, Some(3), OwnershipState::TakeBack)), (3, true));
        let mut both = view(3, false, true);
        both.owners.others.push("flux".to_owned());
        assert_eq!(next_step(&both, Some(3), OwnershipState::TakeBack), Step::Nothing);
        assert_eq!(next_step(&both, None, OwnershipState::TakeBack), Step::Nothing);
        assert_eq!(scale(next_step(&both, Some(4), OwnershipState::TakeBack)), (4, true));
        let mut shared = view(3, false, true);
        shared.owners.shared = true;
        assert_eq!(next_step(&shared, Some(3), OwnershipState::Ours), Step::Nothing);
        assert_eq!(
            scale(next_step(&shared, Some(4), OwnershipState::Ours)),
            (4, true),
            "an unforced apply would be refused"
        );
        assert_eq!(
            next_step(&view(0, false, false), Some(0), OwnershipState::TakeBack),
            Step::Nothing,
            "a 0 cannot be owned"
        );
        assert_eq!(scale(next_step(&view(0, false, false), Some(2), OwnershipState::TakeBack)), (2, true));
    }

    #[test]
    fn zero_of_the_first_apply_is_taken_over_with_the_next_number() {
        assert_eq!(next_step(&view(0, true, false), Some(0), OwnershipState::Ours), Step::Nothing);
        assert_eq!(next_step(&view(0, true, false), None, OwnershipState::Ours), Step::Nothing);
        assert_eq!(scale(next_step(&view(0, true, false), Some(2), OwnershipState::Ours)), (2, true));
        assert_eq!(scale(next_step(&view(0, false, false), Some(2), OwnershipState::Ours)), (2, false));
    }

    fn intent(generation: i64, resume: Option<&str>) -> UserIntent {
        UserIntent { generation: Some(generation), resume: resume.map(str::to_owned) }
    }

    #[test]
    fn foreign_write_is_respected_for_10_minutes_then_reverted() {
        let mut foreign = ForeignWrites::default();
        let mut at = |time: f64, is_foreign| foreign.observe(is_foreign, Some(3), &intent(1, None), Seconds(time));
        assert_eq!(at(0.0, false), OwnershipState::Ours);
        assert_eq!(at(10.0, true), OwnershipState::Respected { until: Seconds(610.0) });
        assert_eq!(at(609.0, true), OwnershipState::Respected { until: Seconds(610.0) });
        assert_eq!(at(610.0, true), OwnershipState::TakeBack);
        assert_eq!(at(611.0, false), OwnershipState::Ours);
        assert_eq!(scale(next_step(&view(3, false, false), Some(5), OwnershipState::TakeBack)), (5, true));
        assert_eq!(
            next_step(&view(3, false, false), Some(5), OwnershipState::Respected { until: Seconds(1.0) }),
            Step::Nothing
        );
    }

    #[test]
    fn second_foreign_write_in_30_minutes_is_a_conflict() {
        for newer in [intent(2, None), intent(1, Some("2026-01-01T00:00:00Z"))] {
            let mut foreign = ForeignWrites::default();
            let mut at = |time: f64, is_foreign, number, intent: &UserIntent| {
                foreign.observe(is_foreign, Some(number), intent, Seconds(time))
            };
            let before = intent(1, None);
            assert!(matches!(at(0.0, true, 3, &before), OwnershipState::Respected { .. }));
            assert_eq!(at(601.0, false, 5, &before), OwnershipState::Ours);
            assert_eq!(at(1000.0, true, 3, &before), OwnershipState::Conflict);
            assert_eq!(at(9000.0, true, 3, &before), OwnershipState::Conflict, "time does not settle it");
            // The intent counts although the other writer has written once more in between.
            assert_eq!(at(9001.0, true, 4, &newer), OwnershipState::TakeBack);
            assert_eq!(at(9002.0, false, 5, &newer), OwnershipState::Ours);
            assert!(
                matches!(at(9003.0, true, 3, &newer), OwnershipState::Respected { .. }),
                "and the count starts again"
            );
        }
        let mut foreign = ForeignWrites::default();
        foreign.observe(true, Some(3), &intent(1, None), Seconds(0.0));
        let again = foreign.observe(true, Some(4), &intent(1, None), Seconds(60.0));
        assert_eq!(again, OwnershipState::Conflict, "a second write while the first is respected");
    }

    #[test]
    fn existing_workload_is_not_written_before_a_change() {
        assert_eq!(next_step_of_existing(&view(3, false, false), Some(3), OwnershipState::Ours, false), Step::Nothing);
        assert_eq!(next_step_of_existing(&view(3, false, false), None, OwnershipState::Ours, false), Step::Nothing);
        assert_eq!(
            scale(next_step_of_existing(&view(3, false, false), Some(5), OwnershipState::Ours, false)),
            (5, true)
        );
        assert_eq!(
            scale(next_step_of_existing(&view(3, false, true), Some(5), OwnershipState::Ours, true)),
            (5, false)
        );
    }
}
