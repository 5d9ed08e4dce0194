//! Who writes the number of workers: our own ownership of the field, step by step, and what to do when someone else
//! writes it. Pure: time is an argument.
//!
//! A workload's first apply carries `replicas`. Next, `sluice/scale` applies the same number to /scale, and only when
//! managedFields shows that it owns the field does `sluice/workload` leave it out: a re-apply without the field drops
//! the count to 1 when nobody else owns it (tried on a real 1.34 server).

use sluice_base::units::Seconds;

use crate::apply::writer::ScaleWrite;
use crate::observe::workload::WorkloadView;

/// A foreign write is respected for so long.
const RESPECTED: Seconds = Seconds(600.0);
/// Two foreign writes within this time are a conflict that a person must settle.
const CONFLICT_WINDOW: Seconds = Seconds(1800.0);

/// What is to be done about a workload's replicas now; one step at a time, each from a fresh look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// All is as it should be.
    Nothing,
    /// Write the number, through /scale.
    Scale(ScaleWrite),
    /// `sluice/scale` owns the field; apply the workload without it, so that it has one owner.
    Release,
}

/// What the user has said last: another word is a newer one, and wins over whoever wrote the number before it. Compared,
/// never ordered: the clocks of who said it and of the operator need not agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// Generation of the job's spec.
    pub(crate) generation: Option<i64>,
    /// What `sluice resume` has left on the job.
    pub(crate) resume: Option<String>,
}

/// Foreign writes to one workload's replicas.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ForeignWrites {
    /// The write that is respected now.
    current: Option<ForeignWrite>,
    /// When the writes of the last half hour were seen.
    recent: Vec<Seconds>,
    /// Twice within half an hour; stays until the user speaks.
    conflict: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct ForeignWrite {
    /// When it was seen.
    at: Seconds,
    /// The number that was written.
    number: Option<u32>,
    /// The user's word then.
    word: Word,
}

/// What a foreign write means for us now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing {
    /// Nobody else writes.
    Ours,
    /// Somebody has written: respected until then.
    Respected { until: Seconds },
    /// The time is over, or the user has spoken since: the number is taken back.
    TakeBack,
    /// Twice within half an hour: a person must decide.
    Conflict,
}

impl ForeignWrites {
    /// Notes what is seen now. `is_foreign`: nobody of us owns the field.
    pub(crate) fn observe(&mut self, is_foreign: bool, written: Option<u32>, word: &Word, now: Seconds) -> Standing {
        self.recent.retain(|at| now - *at < CONFLICT_WINDOW);
        if !is_foreign {
            self.current = None;
            return Standing::Ours;
        }
        if self.current.as_ref().is_some_and(|current| current.word != *word) {
            // The user has spoken since, and old quarrels are forgotten.
            self.recent.clear();
            self.conflict = false;
            return Standing::TakeBack;
        }
        let since = match &self.current {
            Some(current) if current.number == written => current.at,
            _ => {
                self.recent.push(now);
                self.current = Some(ForeignWrite { at: now, number: written, word: word.clone() });
                now
            }
        };
        self.conflict |= self.recent.len() >= 2;
        if self.conflict {
            return Standing::Conflict;
        }
        let until = since + RESPECTED;
        if now < until { Standing::Respected { until } } else { Standing::TakeBack }
    }
}

/// The next step for a workload of our own. `desired`: the number wanted; `None`: unknown, keep what there is.
pub(crate) fn next(view: &WorkloadView, desired: Option<u32>, standing: Standing) -> Step {
    let owners = &view.owners;
    let write = |replicas, force| {
        Step::Scale(ScaleWrite {
            replicas,
            uid: view.uid.clone(),
            resource_version: view.resource_version.clone(),
            force,
        })
    };
    match (standing, view.desired, desired) {
        (Standing::Ours | Standing::TakeBack, ..) if owners.workload && owners.scale => Step::Release,
        // Who applies the same number has a share in it, however often we write it; and of a 0 an apply on /scale owns nothing.
        (Standing::TakeBack, present, desired)
            if (owners.scale || present == Some(0)) && desired.is_none_or(|desired| present == Some(desired)) =>
        {
            Step::Nothing
        }
        (Standing::TakeBack, present, desired) => {
            desired.or(present).map_or(Step::Nothing, |replicas| write(replicas, true))
        }
        // An apply of 0 on /scale owns nothing (the field is left out), so a 0 is taken over with the first other number.
        (Standing::Ours, Some(0), desired) if owners.workload && !owners.scale => {
            desired.filter(|desired| *desired > 0).map_or(Step::Nothing, |desired| write(desired, true))
        }
        // The field is ours from the first apply; take it over at its present value, then let go of it there.
        (Standing::Ours, Some(present), _) if owners.workload && !owners.scale => write(present, false),
        (Standing::Ours, present, Some(desired)) if present != Some(desired) => write(desired, owners.shared),
        (Standing::Ours | Standing::Respected { .. } | Standing::Conflict, ..) => Step::Nothing,
    }
}

/// The next step for a workload that someone else made. Until the number is to change, nothing is written at all, so
/// that a look (Recommend) leaves no trace; the first change takes the field from whoever had it.
pub(crate) fn next_existing(view: &WorkloadView, desired: Option<u32>, standing: Standing, taken: bool) -> Step {
    match (standing, desired) {
        (Standing::Ours | Standing::TakeBack, Some(desired)) if view.desired != Some(desired) => {
            Step::Scale(ScaleWrite {
                replicas: desired,
                uid: view.uid.clone(),
                resource_version: view.resource_version.clone(),
                force: !taken || view.owners.shared || standing == Standing::TakeBack,
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
    fn ownership_is_taken_at_the_present_value_then_released_then_used() {
        assert_eq!(scale(next(&view(6, true, false), Some(9), Standing::Ours)), (6, false));
        assert_eq!(next(&view(6, true, true), Some(9), Standing::Ours), Step::Release);
        assert_eq!(scale(next(&view(6, false, true), Some(9), Standing::Ours)), (9, false));
        assert_eq!(next(&view(9, false, true), Some(9), Standing::Ours), Step::Nothing);
        assert_eq!(next(&view(9, false, true), None, Standing::Ours), Step::Nothing);
    }

    #[test]
    fn a_number_that_is_taken_back_as_it_is_is_written_once() {
        let mut before = view(3, false, false);
        before.owners.others.push("flux".to_owned());
        assert_eq!(scale(next(&before, Some(3), Standing::TakeBack)), (3, true));
        let mut both = view(3, false, true);
        both.owners.others.push("flux".to_owned());
        assert_eq!(next(&both, Some(3), Standing::TakeBack), Step::Nothing);
        assert_eq!(next(&both, None, Standing::TakeBack), Step::Nothing);
        assert_eq!(scale(next(&both, Some(4), Standing::TakeBack)), (4, true));
        let mut shared = view(3, false, true);
        shared.owners.shared = true;
        assert_eq!(next(&shared, Some(3), Standing::Ours), Step::Nothing);
        assert_eq!(scale(next(&shared, Some(4), Standing::Ours)), (4, true), "it is refused otherwise");
        assert_eq!(next(&view(0, false, false), Some(0), Standing::TakeBack), Step::Nothing, "nobody can own our 0");
        assert_eq!(scale(next(&view(0, false, false), Some(2), Standing::TakeBack)), (2, true));
    }

    #[test]
    fn a_zero_from_the_first_apply_is_taken_over_with_the_first_other_number() {
        assert_eq!(next(&view(0, true, false), Some(0), Standing::Ours), Step::Nothing);
        assert_eq!(next(&view(0, true, false), None, Standing::Ours), Step::Nothing);
        assert_eq!(scale(next(&view(0, true, false), Some(2), Standing::Ours)), (2, true));
        assert_eq!(scale(next(&view(0, false, false), Some(2), Standing::Ours)), (2, false));
    }

    fn word(generation: i64, resume: Option<&str>) -> Word {
        Word { generation: Some(generation), resume: resume.map(str::to_owned) }
    }

    #[test]
    fn a_foreign_write_is_respected_for_ten_minutes_then_taken_back() {
        let mut foreign = ForeignWrites::default();
        let mut at = |time: f64, is_foreign| foreign.observe(is_foreign, Some(3), &word(1, None), Seconds(time));
        assert_eq!(at(0.0, false), Standing::Ours);
        assert_eq!(at(10.0, true), Standing::Respected { until: Seconds(610.0) });
        assert_eq!(at(609.0, true), Standing::Respected { until: Seconds(610.0) });
        assert_eq!(at(610.0, true), Standing::TakeBack);
        assert_eq!(at(611.0, false), Standing::Ours);
        assert_eq!(scale(next(&view(3, false, false), Some(5), Standing::TakeBack)), (5, true));
        assert_eq!(next(&view(3, false, false), Some(5), Standing::Respected { until: Seconds(1.0) }), Step::Nothing);
    }

    #[test]
    fn a_second_foreign_write_within_half_an_hour_is_a_conflict_until_the_user_speaks() {
        for newer in [word(2, None), word(1, Some("2026-01-01T00:00:00Z"))] {
            let mut foreign = ForeignWrites::default();
            let mut at = |time: f64, is_foreign, number, word: &Word| {
                foreign.observe(is_foreign, Some(number), word, Seconds(time))
            };
            let before = word(1, None);
            assert!(matches!(at(0.0, true, 3, &before), Standing::Respected { .. }));
            assert_eq!(at(601.0, false, 5, &before), Standing::Ours);
            assert_eq!(at(1000.0, true, 3, &before), Standing::Conflict);
            assert_eq!(at(9000.0, true, 3, &before), Standing::Conflict, "time does not settle it");
            // Though the other has written once more in between.
            assert_eq!(at(9001.0, true, 4, &newer), Standing::TakeBack);
            assert_eq!(at(9002.0, false, 5, &newer), Standing::Ours);
            assert!(matches!(at(9003.0, true, 3, &newer), Standing::Respected { .. }), "and it begins anew");
        }
        let mut foreign = ForeignWrites::default();
        foreign.observe(true, Some(3), &word(1, None), Seconds(0.0));
        let again = foreign.observe(true, Some(4), &word(1, None), Seconds(60.0));
        assert_eq!(again, Standing::Conflict, "again, while respected");
    }

    #[test]
    fn an_existing_workload_is_not_touched_until_its_number_is_to_change() {
        assert_eq!(next_existing(&view(3, false, false), Some(3), Standing::Ours, false), Step::Nothing);
        assert_eq!(next_existing(&view(3, false, false), None, Standing::Ours, false), Step::Nothing);
        assert_eq!(scale(next_existing(&view(3, false, false), Some(5), Standing::Ours, false)), (5, true));
        assert_eq!(scale(next_existing(&view(3, false, true), Some(5), Standing::Ours, true)), (5, false));
    }
}
