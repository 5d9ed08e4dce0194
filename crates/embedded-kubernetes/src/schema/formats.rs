//! The string formats that the real server checks. It ignores other formats, including those of numbers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// Returns the canonical name of a format, if it is checked.
pub(super) fn canonical_name(format: &str) -> Option<&'static str> {
    [
        "byte",
        "cidr",
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "mac",
        "uri",
        "uuid",
        "k8s-short-name",
        "k8s-long-name",
    ]
    .into_iter()
    .find(|name| *name == format || name.replace('-', "") == format)
}

fn matches(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

/// Returns whether `text` has the format, which must be a [`canonical_name`].
pub(super) fn has_format(format: &str, text: &str) -> bool {
    static DURATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let units = "ns|nano|nanosecond|us|µs|micro|microsecond|ms|milli|millisecond|s|sec|second|m|min|minute|h|hr|hour|d|day|w|wk|week";
        Regex::new(&format!(r"(?i)\d+(\.\d+)?\s*({units})s?\b")).ok()
    });
    static DATE_TIME: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$").ok());
    static UUID: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").ok());
    static MAC: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new("(?i)^([0-9a-f]{2}([:-])([0-9a-f]{2}[:-]){4,6}[0-9a-f]{2}|[0-9a-f]{4}(\\.[0-9a-f]{4}){2,3})$").ok()
    });
    static URI: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^([A-Za-z][A-Za-z0-9+.-]*:\S*|/\S*)$").ok());
    static LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").ok());
    static HOST: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^[A-Za-z0-9]([-A-Za-z0-9]{0,62}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,62}[A-Za-z0-9])?)*\.?$")
            .ok()
    });
    match format {
        "byte" => is_base64(text),
        "date" => is_date(text),
        "date-time" => {
            matches(&DATE_TIME, text) && text.get(..10).is_some_and(is_date) && text.get(11..19).is_some_and(is_time)
        }
        "duration" => text == "0" || matches(&DURATION, text),
        "email" => text.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace) && !host.contains('@')
        }),
        "hostname" => text.len() <= 255 && matches(&HOST, text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            let most = if address.parse::<Ipv4Addr>().is_ok() { 32 } else { 128 };
            let address = most == 32 || address.parse::<Ipv6Addr>().is_ok();
            address && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
        }),
        "mac" => matches(&MAC, text),
        "uri" => matches(&URI, text),
        "uuid" => matches(&UUID, text),
        "k8s-short-name" => text.len() <= 63 && matches(&LABEL, text),
        "k8s-long-name" => text.len() <= 253 && text.split('.').all(|label| matches(&LABEL, label)),
        _ => true,
    }
}

/// Returns whether the text is Base64 in the standard alphabet, with padding.
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

fn digits(text: Option<&str>) -> Option<u32> {
    text?.parse().ok()
}

/// Returns whether the text is an existing day in the form `2006-01-02`.
fn is_date(text: &str) -> bool {
    let parts = (digits(text.get(0..4)), digits(text.get(5..7)), digits(text.get(8..10)));
    let (Some(year), Some(month), Some(day)) = parts else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    let bytes = text.as_bytes();
    bytes.len() == 10 && bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-') && (1..=days).contains(&day)
}

/// Returns whether the text is a time in the form `15:04:05`.
fn is_time(text: &str) -> bool {
    let part = |from: usize| digits(text.get(from..from + 2));
    part(0).is_some_and(|hour| hour < 24)
        && part(3).is_some_and(|minute| minute < 60)
        && part(6).is_some_and(|second| second < 60)
}
