//! Field types that several resources share, with the schema that the API server enforces for each.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A duration in Go's notation, such as `10s`, `1h30m` or `500ms`.
pub use kube::core::Duration;

/// Returns the schema of a duration. `format: duration` would also accept "1 day", which no Kubernetes user expects.
pub(crate) fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
    })
}

/// Returns the schema of an object that is passed on unchanged (a pod template, a rollout strategy).
///
/// With the full pod schema the resource definition would exceed the size that `kubectl apply` can store in its
/// annotation. The API server checks these parts when the workload is applied.
pub(crate) fn opaque_object_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Returns the schema of a list of at most 8 opaque objects.
pub(crate) fn opaque_list_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    })
}

/// A share of records in hundredths of a percent, between 5000 and 9999: 9900 is 99 %, 9990 is 99.9 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PercentileBasisPoints(u16);

impl PercentileBasisPoints {
    /// Parses `99`, `"99"` or `"99.9"`; `None` outside 50 to 99.99 or with more than two decimals.
    pub fn parse(value: &IntOrString) -> Option<Self> {
        let points = match value {
            IntOrString::Int(percent) => percent.checked_mul(100)?,
            IntOrString::String(text) => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
                let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                if !digits(whole) || !digits(fraction) || fraction.len() > 2 || whole.len() > 3 {
                    return None;
                }
                let scale = if fraction.len() == 1 { 10 } else { 1 };
                whole.parse::<i32>().ok()? * 100 + fraction.parse::<i32>().ok()? * scale
            }
        };
        (5000..=9999).contains(&points).then(|| u16::try_from(points).ok().map(Self)).flatten()
    }

    /// Returns the share as a fraction between 0.5 and 0.9999.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> IntOrString {
        IntOrString::String(value.to_owned())
    }

    #[test]
    fn percentile_takes_integers_and_decimals_in_strings() {
        let points = |value| PercentileBasisPoints::parse(&value).map(|p| p.0);
        assert_eq!(points(IntOrString::Int(99)), Some(9900));
        assert_eq!(points(text("99")), Some(9900));
        assert_eq!(points(text("99.9")), Some(9990));
        assert_eq!(points(text("99.99")), Some(9999));
        assert_eq!(points(text("99.05")), Some(9905));
        for bad in ["49", "100", "99.999", "99.", ".9", "", "abc", "-99", "9 9", "99999999999"] {
            assert_eq!(points(text(bad)), None, "{bad:?}");
        }
        assert_eq!(points(IntOrString::Int(100)), None);
        assert_eq!(points(IntOrString::Int(i32::MAX)), None);
    }
}
