//! Derives plans from a run without faults.

use embedded_kubernetes::faults::{Act, Asked, Harm, Plan};

use crate::run::{Outcome, WATCHED};

/// Duration of a view of the past, seconds.
const PAST: u32 = 20;
/// The faults of each write. `CrashLate` crashes the operator while the write is under way.
const HARMS: [Harm; 10] = [
    Harm::Crash,
    Harm::CrashLate(6),
    Harm::Lost,
    Harm::Late(6),
    Harm::Silent,
    Harm::Delay(3),
    Harm::Refuse(403),
    Harm::Refuse(409),
    Harm::Refuse(429),
    Harm::Refuse(500),
];

/// Returns the plans for a run, each with its kind.
pub(crate) fn derive(reference: &Outcome) -> Vec<(&'static str, Plan)> {
    let mut plans = Vec::new();
    let writes: Vec<u32> = (1..)
        .zip(reference.requests.iter().filter(|request| Act::Write.covers(request.act)))
        .filter(|(_, request)| request.path.plural != "events")
        .map(|(number, _)| number)
        .collect();
    for number in &writes {
        let write = Asked::every(Act::Write).nth(*number);
        for harm in HARMS {
            let kind = match harm {
                Harm::Crash | Harm::CrashLate(_) => "crash",
                Harm::Lost | Harm::Late(_) | Harm::Silent | Harm::Delay(_) => "lost",
                _ => "refused",
            };
            plans.push((kind, Plan::one(write.clone(), harm)));
        }
        // Time travel: the operator restarts, and its watches do not report what it has done. Its lists show the
        // present, because it requests the newest version; the watches of a server that is behind may be silent.
        let crash = Plan::one(write.clone(), Harm::Crash);
        let silent =
            |plan: Plan, kind: &str| plan.and(Asked::every(Act::Watch).of(kind).in_life(2).nth(1), Harm::Stall(PAST));
        plans.push(("past", WATCHED.iter().fold(crash.clone(), |plan, kind| silent(plan, kind))));
        for kind in WATCHED {
            plans.push(("past", silent(crash.clone(), kind)));
        }
    }
    for kind in WATCHED {
        let revisions = notifications(reference, &[kind]);
        let watch = Asked::every(Act::Watch).of(kind).nth(1);
        for (at, revision) in revisions.iter().enumerate() {
            plans.push(("behind", Plan::one(watch.clone(), Harm::Hold(revision - 1, PAST))));
            for later in [1, 3] {
                if let Some(end) = revisions.get(at + later) {
                    plans.push(("gap", Plan::one(watch.clone(), Harm::Gap(*revision, *end))));
                }
            }
        }
        plans.push(("broken", Plan::one(watch.clone(), Harm::Twice)));
        plans.push(("broken", Plan::one(watch.clone(), Harm::Expire)));
        for lines in 0..u32::try_from(revisions.len()).unwrap() {
            plans.push(("broken", Plan::one(watch.clone(), Harm::Cut(lines))));
        }
        for harm in [Harm::Refuse(410), Harm::Refuse(403), Harm::Refuse(500), Harm::Reset] {
            plans.push(("broken", Plan::one(Asked::every(Act::Any).of(kind).nth(1), harm)));
            plans.push(("broken", Plan::one(watch.clone(), harm)));
        }
    }
    plans
}

/// Returns the revisions of all notifications of the operator.
fn notifications(reference: &Outcome, kinds: &[&str]) -> Vec<u64> {
    let of_jobs = |event: &embedded_kubernetes::store::Event| !event.key.contains("bystander");
    let mut all: Vec<u64> = kinds
        .iter()
        .flat_map(|kind| reference.history(kind))
        .filter(|event| event.object.revision > reference.begin && of_jobs(event))
        .map(|event| event.object.revision)
        .collect();
    all.sort_unstable();
    all
}
