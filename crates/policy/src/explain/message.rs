//! The sentence that a person reads, with the numbers that decided.

use sluice_base::words::{count, rate, seconds};

use super::super::contract::decision::{BoundBy, Limit, Limited, Reason};
use super::super::limit::scale_down::hold_seconds;
use super::super::limit::{self, Case};

/// Why a decision is what it is, in one sentence.
pub(crate) fn sentence(case: &Case<'_>, answer: &limit::Limited) -> String {
    let (current, to) = (case.current, answer.desired);
    let head = if to == current { format!("stays at {current}") } else { format!("{current} -> {to}") };
    format!("{head}: {}", why(case, answer))
}

fn why(case: &Case<'_>, answer: &limit::Limited) -> String {
    let (need, snapshot, settings) = (case.need, case.snapshot, case.settings);
    let to = answer.desired;
    let target = seconds(settings.latency.0);
    let hold = seconds(hold_seconds(case.memory, need));
    let arriving = format!("{} arriving", rate(need.demand.level));
    let growing = if need.demand.upper > 1.05 * need.demand.level { " and may grow" } else { "" };
    let does = |n: u32| {
        let verb = if n == 1 { "does" } else { "do" };
        need.mu.map(|mu| format!("{} {verb} {}", workers(n), rate(mu / case.memory.stairs.share(n))))
    };
    let now_does = does(need.working).map_or_else(String::new, |d| format!("; {d}"));
    let (lag, age) = (snapshot.lag.unwrap_or_default(), snapshot.age.unwrap_or_default());
    let waits = format!("{} records wait, the oldest for {}", count(lag.possible), seconds(age.certain));
    let note = answer.because.as_ref().map_or_else(String::new, |b| format!("; {b}"));
    match answer.reason {
        Reason::Growth => format!("{arriving}{growing}{now_does}{}", outcome(answer, to, &target)),
        Reason::CatchUp => format!("{waits}; {arriving}{now_does}{}", outcome(answer, to, &target)),
        Reason::LowerDemand => {
            let verb = if to == 1 { "is" } else { "are" };
            let enough = does(to).unwrap_or_else(|| format!("{} {verb} tried", workers(to)));
            format!("{arriving}; {enough}, and would have been enough for {hold}")
        }
        Reason::Steady if answer.limit.is_some() => format!("{arriving}{growing}{now_does}; more would not help"),
        Reason::Steady if age.certain > settings.latency.0 => {
            format!("{waits}; {arriving}{now_does}; what waits is being worked off")
        }
        Reason::Steady => match need.staying {
            Some(staying) if staying > 0.05 * settings.latency.0 => {
                format!("{arriving}{growing}{now_does}; records wait {} at most (target {target})", seconds(staying))
            }
            _ => format!("{arriving}{growing}{now_does}; the latency stays within {target}"),
        },
        Reason::Idle => "no record arrives and none waits".to_owned(),
        Reason::WakeUp => format!("{} records wait and no worker runs", count(lag.possible)),
        Reason::Floor => format!("the floor is {} ({})", workers(case.range.floor), case.range.floor_by.as_str()),
        Reason::Ceiling => {
            format!("the ceiling is {} ({})", workers(case.range.ceiling), case.range.ceiling_by.as_str())
        }
        Reason::Useless => format!("the partitions feed {} at most", workers(to)),
        Reason::Pinned => format!("pinned to {} by spec.replicas", workers(to)),
        Reason::Suspended => "suspended by spec.suspend".to_owned(),
        Reason::InFlight => match case.memory.in_flight() {
            Some(flight) if flight.rolling => format!("{arriving}; another template is being rolled out"),
            Some(flight) => {
                format!("{arriving}; the change from {} to {} is still taking effect", flight.from, flight.to)
            }
            None => format!("{arriving}; an earlier change is still taking effect"),
        },
        Reason::Stabilizing => {
            format!("{arriving}{now_does}; fewer would do, but must have been enough for {hold}{note}")
        }
        Reason::Learning => format!("{arriving}; what one worker can do is not known well enough yet{note}"),
        Reason::NoSignal if snapshot.fresh => format!("not scaling down while a signal is missing{note}"),
        Reason::NoSignal => {
            let since = case.memory.clock.now - case.memory.clock.seen_at;
            format!("no signal for {}; the workers stay as they are", seconds(since))
        }
        Reason::Fallback => {
            let since = case.memory.clock.now - case.memory.clock.seen_at;
            format!("no signal for {}; the fallback holds", seconds(since))
        }
        Reason::CrashLooping => format!("{waits}, but workers crash again and again; more of them would crash too"),
        Reason::ExternalBottleneck => format!("{waits}{}", bottleneck(case)),
        Reason::Stalled => format!("{waits}, and the workers run but process nothing"),
    }
}

fn outcome(answer: &limit::Limited, to: u32, target: &str) -> String {
    match (answer.bound_by, answer.limit) {
        (BoundBy::Objective, _) => format!("; {to} keep the latency within {target}"),
        (by, Some((_, wanted))) => format!("; {wanted} would keep the latency within {target} ({})", by.as_str()),
        (by, None) => format!("; {}", by.as_str()),
    }
}

fn workers(n: u32) -> String {
    if n == 1 { "1 worker".to_owned() } else { format!("{n} workers") }
}

/// Why there are not more, in one sentence.
pub(crate) fn limited(case: &Case<'_>, limit: Limit, wanted: u32, desired: u32) -> Limited {
    let partitions = case.need.stairs.partitions().unwrap_or(0);
    let useful = case.need.stairs.useful().unwrap_or(desired);
    let message = match limit {
        Limit::AtMaxReplicas => format!("{} wanted; the ceiling is {}", workers(wanted), case.range.ceiling),
        Limit::AtPartitionCount => {
            format!("{} wanted; {partitions} partitions cannot feed more than {}", workers(wanted), workers(useful))
        }
        Limit::Skewed => format!(
            "{} wanted; one partition gets more than one worker can do: more workers do not help",
            workers(wanted)
        ),
        Limit::ExternalBottleneck => format!("{} wanted{}", workers(wanted), bottleneck(case)),
        Limit::PartitionStuck => stuck(case),
        Limit::QuotaExceeded => format!("{} wanted; a pool or quota grants {}", workers(wanted), case.range.ceiling),
        Limit::Unschedulable => {
            format!("{} wanted; no node can take {}", workers(wanted), pods(case.observation.limits.unschedulable))
        }
        Limit::CrashLooping => {
            format!("{} wanted; {} crash again and again", workers(wanted), pods(case.observation.limits.crash_looping))
        }
        Limit::PodsFailing => format!(
            "{} wanted; {} cannot start: look at the pods' events",
            workers(wanted),
            pods(case.observation.limits.failing)
        ),
        Limit::PodsNotReady => format!(
            "{} wanted; {} of {} that were asked for are ready: more would not become ready either",
            workers(wanted),
            case.observation.replicas.ready.unwrap_or(0),
            case.current
        ),
        Limit::RescaleBudget => format!(
            "{} wanted; {} changes in the last hour are allowed",
            workers(wanted),
            case.settings.max_rescales_per_hour
        ),
        Limit::StepLimit => format!("{} wanted; one step goes to {desired}", workers(wanted)),
        Limit::OutOnly => format!("{} would do; mode OutOnly removes none", workers(wanted)),
        Limit::InOnly => format!("{} wanted; mode InOnly adds none", workers(wanted)),
    };
    Limited { by: limit, wanted, message }
}

/// What was found out about more workers.
fn bottleneck(case: &Case<'_>) -> String {
    case.memory.bottleneck.holds(case.memory.clock.now).map_or_else(String::new, |found| {
        let did = rate(found.rate);
        format!(
            "; more than {} did no more than {did} together: something they share is the limit",
            workers(found.workers)
        )
    })
}

/// Which partitions stand still.
fn stuck(case: &Case<'_>) -> String {
    let stuck = &case.snapshot.stuck;
    let first = stuck.first().map_or("", |id| id);
    let more = match stuck.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    format!(
        "{first}{more}: records wait and none is processed while other partitions move; more workers do not help, look \
             at the record they stand at"
    )
}

fn pods(n: Option<u32>) -> String {
    match n.unwrap_or(0) {
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    }
}
