//! The resource definition's rules between fields that `operator::validate` leaves to the API server.

use serde_json::Value;

/// What breaks a rule: the field, and the message that the definition has for it.
pub(super) fn broken(job: &Value) -> Vec<(String, &'static str)> {
    let mut broken = Vec::new();
    let at = |pointer: &str| job.pointer(pointer);
    let number = |value: Option<&Value>| value.and_then(Value::as_i64);

    if at("/metadata/name").and_then(Value::as_str).is_some_and(|name| name.chars().count() > 52) {
        broken.push((
            "metadata.name".to_owned(),
            "metadata.name must have at most 52 characters, because the names of the workers are made from it: use a shorter name",
        ));
    }
    let most = number(at("/spec/maxReplicas"));
    let initial = number(at("/spec/scaling/initialReplicas"));
    if initial.zip(most).is_some_and(|(initial, most)| initial > most) {
        broken.push((
            "spec.scaling.initialReplicas".to_owned(),
            "scaling.initialReplicas must not be larger than maxReplicas",
        ));
    }
    let style = at("/spec/processing/style").and_then(Value::as_str);
    if at("/spec/processing/batchInterval").is_some() && style != Some("MicroBatch") {
        broken.push((
            "spec.processing.batchInterval".to_owned(),
            "processing.batchInterval needs processing.style: MicroBatch",
        ));
    }
    if at("/spec/metrics/port").and_then(Value::as_str).is_some_and(|name| !is_port_name(name)) {
        broken.push((
            "spec.metrics.port".to_owned(),
            "metrics.port must be a port number or the name of a container port",
        ));
    }
    for (index, schedule) in at("/spec/scaling/schedules").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let (low, high) = (number(schedule.get("minReplicas")), number(schedule.get("maxReplicas")));
        let field = |name: &str| format!("spec.scaling.schedules[{index}]{name}");
        match (low, high) {
            (None, None) => broken.push((field(""), "a schedule needs minReplicas, maxReplicas or both")),
            (Some(low), Some(high)) if low > high => broken
                .push((field(".minReplicas"), "minReplicas of a schedule must not be larger than its maxReplicas")),
            _ => {}
        }
    }
    broken
}

fn is_port_name(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    (1..=15).contains(&name.len())
        && name.chars().all(|letter| plain(letter) || letter == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
