//! Sentences about latency and backlog for condition messages. Pure.

use sluice_base::words;
use sluice_policy::{Explain, WithinTarget};

/// Returns the message of the condition `WithinTarget`.
pub(crate) fn within_target(within: WithinTarget, explain: &Explain, target_seconds: Option<f64>) -> String {
    let measured = measured(explain, target_seconds);
    match within {
        WithinTarget::Met => measured,
        WithinTarget::Behind => format!("{measured}; the backlog is not shrinking"),
        WithinTarget::CatchingUp { eta } => {
            format!("{measured}; the job will meet the target again in about {}", words::seconds(eta.0))
        }
        WithinTarget::ObjectiveBelowFloor { floor } => format!(
            "processing alone takes {}, so no replica count can meet the objective: raise objective.latency",
            words::seconds(floor.0)
        ),
        WithinTarget::Unknown => match explain.lag {
            Some(lag) => {
                format!("up to {} records wait, and no worker is ready; their age is unknown", words::count(lag))
            }
            None => "the latency is unknown: the source cannot be read".to_owned(),
        },
    }
}

/// Describes latency and backlog, as far as they are known.
fn measured(explain: &Explain, target_seconds: Option<f64>) -> String {
    let target = target_seconds.map(|target| format!(" (target {})", words::seconds(target))).unwrap_or_default();
    let latency = explain.latency_seconds.map(|latency| format!("the latency is {}{target}", words::seconds(latency)));
    let waiting = explain.lag.map(|lag| match words::count(lag).as_str() {
        "0" => "no record waits".to_owned(),
        "1" => "1 record waits".to_owned(),
        lag => format!("{lag} records wait"),
    });
    match (latency, waiting) {
        (Some(latency), Some(waiting)) => format!("{latency}, and {waiting}"),
        (Some(latency), None) => format!("{latency}; the number of waiting records is unknown"),
        (None, Some(waiting)) => format!("{waiting}; no latency was measured in the last minute"),
        (None, None) => {
            "no latency was measured in the last minute, and the number of waiting records is unknown".to_owned()
        }
    }
}

/// Returns a count of pods with its verb: `1 of 3 pods crashes`, `2 of 3 pods crash`.
pub(crate) fn pods(number: usize, of: usize, one: &str, several: &str) -> String {
    format!("{number} of {of} pods {}", if number == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_base::units::Seconds;

    #[test]
    fn message_describes_what_is_known() {
        let message = |within, latency_seconds, lag| {
            within_target(within, &Explain { lag, latency_seconds, ..Explain::default() }, Some(10.0))
        };
        let catching_up = WithinTarget::CatchingUp { eta: Seconds(130.0) };
        let below = WithinTarget::ObjectiveBelowFloor { floor: Seconds(12.0) };
        let none = "no latency was measured in the last minute";
        let table = [
            (WithinTarget::Met, Some(3.2), Some(705.0), "the latency is 3.2s (target 10s), and 705 records wait"),
            (WithinTarget::Met, Some(3.2), Some(1.0), "the latency is 3.2s (target 10s), and 1 record waits"),
            (WithinTarget::Met, Some(0.02), Some(0.0), "the latency is 20ms (target 10s), and no record waits"),
            (
                WithinTarget::Met,
                Some(3.2),
                None,
                "the latency is 3.2s (target 10s); the number of waiting records is unknown",
            ),
            (WithinTarget::Met, None, Some(705.0), &format!("705 records wait; {none}")),
            (WithinTarget::Met, None, Some(0.0), &format!("no record waits; {none}")),
            (WithinTarget::Met, None, None, &format!("{none}, and the number of waiting records is unknown")),
            (
                WithinTarget::Behind,
                Some(32.0),
                Some(9000.0),
                "the latency is 32s (target 10s), and 9k records wait; the backlog is not shrinking",
            ),
            (
                WithinTarget::Behind,
                None,
                Some(9000.0),
                &format!("9k records wait; {none}; the backlog is not shrinking"),
            ),
            (
                WithinTarget::Behind,
                Some(32.0),
                None,
                "the latency is 32s (target 10s); the number of waiting records is unknown; the backlog is not shrinking",
            ),
            (
                catching_up,
                Some(32.0),
                Some(9000.0),
                "the latency is 32s (target 10s), and 9k records wait; the job will meet the target again in about 2m10s",
            ),
            (
                catching_up,
                None,
                Some(9000.0),
                &format!("9k records wait; {none}; the job will meet the target again in about 2m10s"),
            ),
            (
                below,
                None,
                None,
                "processing alone takes 12s, so no replica count can meet the objective: raise objective.latency",
            ),
            (WithinTarget::Unknown, None, None, "the latency is unknown: the source cannot be read"),
        ];
        for (within, latency, lag, sentence) in table {
            assert_eq!(message(within, latency, lag), sentence);
        }
        assert_eq!(pods(1, 3, "crashes", "crash"), "1 of 3 pods crashes");
        assert_eq!(pods(2, 3, "crashes", "crash"), "2 of 3 pods crash");
    }
}
