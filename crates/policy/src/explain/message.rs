//! The sentence that explains a decision to a person, with the numbers that decided.

use sluice_base::words::{count, rate, seconds};

use super::super::contract::decision::{BoundBy, Limit, Limited, Reason};
use super::super::limit::scale_down::hold_seconds;
use super::super::limit::{Case, Proposal};

/// Explains a decision in one sentence: what happens, then why.
pub(crate) fn sentence(case: &Case<'_>, proposal: &Proposal) -> String {
    let (current, to) = (case.current, proposal.desired);
    let head = if to == current { format!("stays at {current}") } else { format!("{current} -> {to}") };
    format!("{head}: {}", explanation(case, proposal))
}

fn explanation(case: &Case<'_>, proposal: &Proposal) -> String {
    let (need, snapshot, settings) = (case.need, case.snapshot, case.settings);
    let to = proposal.desired;
    let target = seconds(settings.latency.0);
    let hold = seconds(hold_seconds(case.memory, need));
    let arriving = format!("{} arriving", rate(need.demand.level));
    let growing = if need.demand.upper > 1.05 * need.demand.level { " and may grow" } else { "" };
    let capacity_of = |n: u32| {
        let verb = if n == 1 { "handles" } else { "handle" };
        need.mu.map(|mu| format!("{} {verb} {}", workers(n), rate(mu / case.memory.stairs.share(n))))
    };
    let capacity_now = capacity_of(need.working).map_or_else(String::new, |d| format!("; {d}"));
    let (lag, age) = (snapshot.lag.unwrap_or_default(), snapshot.age.unwrap_or_default());
    let backlog = format!("{} records waiting, the oldest for {}", count(lag.possible), seconds(age.certain));
    let note = proposal.because.as_ref().map_or_else(String::new, |b| format!("; {b}"));
    match proposal.reason {
        Reason::Growth => format!("{arriving}{growing}{capacity_now}{}", effect(proposal, to, &target)),
        Reason::CatchUp => format!("{backlog}; {arriving}{capacity_now}{}", effect(proposal, to, &target)),
        Reason::LowerDemand => match capacity_of(to) {
            Some(capacity) => format!("{arriving}; {capacity}, which would have been enough for the last {hold}"),
            None => format!("{arriving}; trying {}, because no more were needed for the last {hold}", workers(to)),
        },
        Reason::Steady if proposal.limit.is_some() => {
            format!("{arriving}{growing}{capacity_now}; more workers would not help")
        }
        Reason::Steady if age.certain > settings.latency.0 => {
            format!("{backlog}; {arriving}{capacity_now}; the backlog is being worked off")
        }
        Reason::Steady => match need.staying {
            Some(staying) if staying > 0.05 * settings.latency.0 => {
                format!(
                    "{arriving}{growing}{capacity_now}; records wait at most {} (target {target})",
                    seconds(staying)
                )
            }
            _ => format!("{arriving}{growing}{capacity_now}; the latency stays within {target}"),
        },
        Reason::Idle => "no records arrive and none are waiting".to_owned(),
        Reason::WakeUp => format!("{} records waiting and no worker is running", count(lag.possible)),
        Reason::Floor => format!("the floor is {} ({})", workers(case.range.floor), case.range.floor_by.as_str()),
        Reason::Ceiling => {
            format!("the ceiling is {} ({})", workers(case.range.ceiling), case.range.ceiling_by.as_str())
        }
        Reason::Useless => format!("the partitions can keep at most {} busy", workers(to)),
        Reason::Pinned => format!("pinned to {} by spec.replicas", workers(to)),
        Reason::Suspended => "suspended by spec.suspend".to_owned(),
        Reason::InFlight => match case.memory.in_flight() {
            Some(flight) if flight.rolling => format!("{arriving}; a rollout of a new pod template is under way"),
            Some(flight) => {
                format!("{arriving}; the change from {} to {} is still taking effect", flight.from, flight.to)
            }
            None => format!("{arriving}; an earlier change is still taking effect"),
        },
        Reason::Stabilizing => {
            format!("{arriving}{capacity_now}; fewer workers would do, but must have been enough for {hold}{note}")
        }
        Reason::Learning => format!("{arriving}; the capacity of one worker is not known well enough yet{note}"),
        Reason::NoSignal if snapshot.fresh => format!("not scaling down while a signal is missing{note}"),
        Reason::NoSignal => {
            let since = case.memory.clock.now - case.memory.clock.seen_at;
            format!("no signal for {}; keeping the current replica count", seconds(since))
        }
        Reason::Fallback => {
            let since = case.memory.clock.now - case.memory.clock.seen_at;
            format!("no signal for {}; keeping at least the fallback replica count", seconds(since))
        }
        Reason::CrashLooping => format!("{backlog}; workers are crash-looping, and more of them would crash too"),
        Reason::ExternalBottleneck => format!("{backlog}{}", bottleneck(case)),
        Reason::Stalled => format!("{backlog}; the workers are running but process nothing"),
    }
}

/// Describes the effect of adding workers, or the limit that prevents it.
fn effect(proposal: &Proposal, to: u32, target: &str) -> String {
    let verb = |n: u32| if n == 1 { "keeps" } else { "keep" };
    match (proposal.bound_by, proposal.limit) {
        (BoundBy::Objective, _) => format!("; {} {} the latency within {target}", workers(to), verb(to)),
        (by, Some((_, wanted))) => {
            format!("; {} would keep the latency within {target} ({})", workers(wanted), by.as_str())
        }
        (by, None) => format!("; {}", by.as_str()),
    }
}

fn workers(n: u32) -> String {
    if n == 1 { "1 worker".to_owned() } else { format!("{n} workers") }
}

/// Explains in one sentence why there are not more workers.
pub(crate) fn limited(case: &Case<'_>, limit: Limit, wanted: u32, desired: u32) -> Limited {
    let partitions = case.need.stairs.partitions().unwrap_or(0);
    let useful = case.need.stairs.useful().unwrap_or(desired);
    let message = match limit {
        Limit::AtMaxReplicas => format!("{} wanted; the ceiling is {}", workers(wanted), case.range.ceiling),
        Limit::AtPartitionCount => {
            format!("{} wanted; {partitions} partitions can keep at most {} busy", workers(wanted), workers(useful))
        }
        Limit::Skewed => format!(
            "{} wanted; one partition receives more than one worker can process, so adding workers does not help; spread \
                its keys over more partitions",
            workers(wanted)
        ),
        Limit::ExternalBottleneck => format!("{} wanted{}", workers(wanted), bottleneck(case)),
        Limit::PartitionStuck => stuck(case),
        Limit::QuotaExceeded => format!("{} wanted; a pool or quota grants {}", workers(wanted), case.range.ceiling),
        Limit::Unschedulable => {
            format!("{} wanted; no node has room for {}", workers(wanted), pods(case.observation.limits.unschedulable))
        }
        Limit::CrashLooping => format!(
            "{} wanted; {} in a crash loop; check the pods' logs",
            workers(wanted),
            pods(case.observation.limits.crash_looping)
        ),
        Limit::PodsFailing => format!(
            "{} wanted; {} cannot start; check the pods' events",
            workers(wanted),
            pods(case.observation.limits.failing)
        ),
        Limit::PodsNotReady => format!(
            "{} wanted; only {} of {} requested workers are ready, and more would not become ready either",
            workers(wanted),
            case.observation.replicas.ready.unwrap_or(0),
            case.current
        ),
        Limit::RescaleBudget => format!(
            "{} wanted; the limit of {} changes per hour (maxRescalesPerHour) is reached",
            workers(wanted),
            case.settings.max_rescales_per_hour
        ),
        Limit::StepLimit => format!("{} wanted; one step may go to {desired}", workers(wanted)),
        Limit::OutOnly => format!("{} would be enough; mode OutOnly removes no workers", workers(wanted)),
        Limit::InOnly => format!("{} wanted; mode InOnly adds no workers", workers(wanted)),
    };
    Limited { by: limit, wanted, message }
}

/// Describes the external bottleneck that was found.
fn bottleneck(case: &Case<'_>) -> String {
    case.memory.bottleneck.found(case.memory.clock.now).map_or_else(String::new, |found| {
        let together = rate(found.rate);
        format!(
            "; more than {} processed no more than {together} together, so something they share is the bottleneck",
            workers(found.workers)
        )
    })
}

/// Names the stuck partitions and the remedy.
fn stuck(case: &Case<'_>) -> String {
    let stuck = &case.snapshot.stuck;
    let first = stuck.first().map_or("", |id| id);
    let more = match stuck.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    format!(
        "{first}{more}: records wait and none are processed while other partitions make progress; adding workers does not \
            help; inspect the first unprocessed record"
    )
}

fn pods(n: Option<u32>) -> String {
    match n.unwrap_or(0) {
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    }
}
