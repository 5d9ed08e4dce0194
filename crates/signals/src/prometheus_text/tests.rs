//! Tables of lines, and properties with prometheus-client as the writer.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use sluice_base::testing::cases;

use super::*;

fn every(_: &str) -> bool {
    true
}

fn sample(text: &str) -> (String, Vec<(String, String)>, f64) {
    match parse_line(text.as_bytes(), every) {
        Line::Sample(MetricSample { name, labels, value }) => {
            (name.to_owned(), labels.iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect(), value)
        }
        other => panic!("{text:?} is {other:?}"),
    }
}

#[test]
fn reads_what_other_parsers_misparse() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], f64);
    let cases: &[Case] = &[
        ("m 1", &[], 1.0),
        ("m{} 1", &[], 1.0),
        ("m{ } 1", &[], 1.0),
        ("m {a=\"b\"} 1", &[("a", "b")], 1.0),
        ("  m\t1  ", &[], 1.0),
        ("m{a=\"b\"} 1", &[("a", "b")], 1.0),
        ("m{a=\"b\",} 1", &[("a", "b")], 1.0),
        ("m{a=\"b\",c=\"d\"} 1", &[("a", "b"), ("c", "d")], 1.0),
        ("m{ a = \"b\" , c = \"d\" , } 1", &[("a", "b"), ("c", "d")], 1.0),
        ("m{a=\"b\"}1", &[("a", "b")], 1.0),
        ("m{a=\"\"} 1", &[("a", "")], 1.0),
        (r#"m{a="x,y}z{=\"q\"\\\n"} 1"#, &[("a", "x,y}z{=\"q\"\\\n")], 1.0),
        (r#"m{a="C:\\dir\\",b="e"} 1"#, &[("a", "C:\\dir\\"), ("b", "e")], 1.0),
        (r#"m{a="\d"} 1"#, &[("a", "\\d")], 1.0),
        ("m{a=\"grüße 🚿\"} 1", &[("a", "grüße 🚿")], 1.0),
        ("m{a=\"# not a comment\"} 1", &[("a", "# not a comment")], 1.0),
        ("m 1 1700000000000", &[], 1.0),
        ("m 1 1700000000.123", &[], 1.0),
        ("m 1 -5", &[], 1.0),
        ("m_bucket{le=\"0.5\"} 8 # {trace_id=\"a}b\"} 0.3 1700000000.1", &[("le", "0.5")], 8.0),
        ("m_total 8 1700000000.1 # {} 1", &[], 8.0),
        ("m 1\r", &[], 1.0),
        ("m{a=\"b\"} 1\r", &[("a", "b")], 1.0),
        ("m +Inf", &[], f64::INFINITY),
        ("m -Inf", &[], f64::NEG_INFINITY),
        ("m 1.5e+09", &[], 1.5e9),
        ("m 4.9406564584124654e-324", &[], 5e-324),
        ("m .5", &[], 0.5),
        ("m:rule:x 1", &[], 1.0),
    ];
    for (text, labels, value) in cases {
        let (name, got_labels, got_value) = sample(text);
        assert!(name.starts_with('m'), "{text:?}");
        let labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(got_labels, labels, "{text:?}");
        assert_eq!(got_value.to_bits(), value.to_bits(), "{text:?}");
    }
    assert!(sample("m NaN").2.is_nan());
}

#[test]
fn malformed_line_keeps_the_metric_name() {
    for text in [
        "m",
        "m ",
        "m{} ",
        "m x",
        "m 0x10",
        "m 1 2 3",
        "m 1 x",
        "m{a} 1",
        "m{a=b} 1",
        "m{a=\"b} 1",
        "m{a=\"b\\\"} 1",
        "m{a=\"b\" c=\"d\"} 1",
        "m{,} 1",
        "m{a=\"b\",,} 1",
        "m{1a=\"b\"} 1",
        "m{a=\"b\"",
        "m{a=\"b\"} ",
        "m{\"quoted\"=\"b\"} 1",
    ] {
        assert_eq!(parse_line(text.as_bytes(), every), Line::Malformed { name: "m" }, "{text:?}");
    }
    assert_eq!(parse_line(b"m{a=\"\xff\"} 1", every), Line::Malformed { name: "m" });
}

#[test]
fn comments_and_unwanted_metrics_are_skipped() {
    for text in ["", "   ", "\r", "# HELP m x", "# EOF", "#", "{\"quoted.name\",a=\"b\"} 1", "\u{feff}", "<html>"] {
        assert_eq!(parse_line(text.as_bytes(), |name| name == "m"), Line::Other, "{text:?}");
    }
    assert_eq!(parse_line(b"other{broken", |name| name == "m"), Line::Other);
    assert_eq!(parse_line(b"\xff\xfe 1", every), Line::Other);
}

#[test]
fn too_long_line_is_skipped_and_counted() {
    let mut lines = LineSplitter::default();
    let mut seen = Vec::new();
    let mut each = |line: &[u8]| seen.push(line.to_vec());
    lines.feed(b"a 1\n", &mut each);
    for _ in 0..10 {
        lines.feed(&vec![b'x'; LONGEST_LINE / 4], &mut each);
    }
    assert!(lines.begun.capacity() <= 2 * LONGEST_LINE);
    lines.feed(b"\nb 2\n", &mut each);
    lines.feed(&[vec![b'y'; LONGEST_LINE + 1], b"\nc 3".to_vec()].concat(), &mut each);
    assert_eq!(lines.finish(&mut each), 2);
    assert_eq!(seen, [b"a 1".to_vec(), b"b 2".to_vec(), b"c 3".to_vec()]);
}

fn label_value() -> impl Strategy<Value = String> {
    prop_oneof![".*", r#"[a\\"n,{}= #\n\r\t]*"#]
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn reads_back_what_prometheus_client_writes(
        series in prop::collection::btree_map((label_value(), label_value()), 0.0..1e15_f64, 0..20),
        gauge in any::<f64>(),
        observed in prop::collection::vec(0.0..100.0_f64, 0..10),
    ) {
        let mut registry = Registry::default();
        let counters = Family::<Vec<(String, String)>, Counter<f64, AtomicU64>>::default();
        registry.register("records", "Records of any \"kind\"", counters.clone());
        for ((first, second), value) in &series {
            counters.get_or_create(&vec![("first".to_owned(), first.clone()), ("second".to_owned(), second.clone())]).inc_by(*value);
        }
        let one = Gauge::<f64, AtomicU64>::default();
        registry.register("level", "Level", one.clone());
        one.set(gauge);
        let histogram = Histogram::new([0.5, 10.0]);
        registry.register("seconds", "Seconds", histogram.clone());
        for each in &observed {
            histogram.observe(*each);
        }
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();

        let mut counted = std::collections::BTreeMap::new();
        let mut levels = Vec::new();
        let mut count = None;
        let mut lines = LineSplitter::default();
        let mut each = |text: &[u8]| match parse_line(text, every) {
            Line::Sample(MetricSample { name: "records_total", labels, value }) => {
                let label = |name| labels.get(name).unwrap().into_owned();
                counted.insert((label("first"), label("second")), value);
            }
            Line::Sample(MetricSample { name: "level", value, .. }) => levels.push(value),
            Line::Sample(MetricSample { name: "seconds_count", value, .. }) => count = Some(value),
            Line::Sample(_) | Line::Other => {}
            Line::Malformed { .. } => panic!("{:?} in {page}", String::from_utf8_lossy(text)),
        };
        for piece in page.as_bytes().chunks(7) {
            lines.feed(piece, &mut each);
        }
        prop_assert_eq!(lines.finish(&mut each), 0);
        prop_assert_eq!(counted, series);
        prop_assert_eq!(levels.len(), 1);
        prop_assert!(levels[0].total_cmp(&gauge).is_eq() || levels[0].is_nan() && gauge.is_nan());
        #[allow(clippy::cast_precision_loss)]
        let expected = observed.len() as f64;
        prop_assert_eq!(count, Some(expected));
    }

    #[test]
    fn never_panics(page in prop::collection::vec(any::<u8>(), 0..400), size in 1..50_usize) {
        swallow(&page, size);
    }

    #[test]
    fn never_panics_on_pages_of_plausible_tokens(page in r#"(m|\{|\}|"|\\|,|=| |\n|\r|#|1|NaN|é|\t|a="b"){0,80}"#, size in 1..50_usize) {
        swallow(page.as_bytes(), size);
    }

    #[test]
    fn pieces_make_no_difference(page in r#"([m{}"\\,= \n#1ab]|m\{a="b"\} 1\n){0,60}"#, size in 1..20_usize) {
        prop_assert_eq!(swallow(page.as_bytes(), size), swallow(page.as_bytes(), page.len().max(1)));
    }
}

fn swallow(page: &[u8], size: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut lines = LineSplitter::default();
    let mut each = |text: &[u8]| {
        let read = parse_line(text, every);
        if let Line::Sample(sample) = &read {
            // The iteration must see every label that the parser checked.
            let _ = sample.labels.iter().count();
        }
        seen.push(format!("{read:?}"));
    };
    page.chunks(size).for_each(|piece| lines.feed(piece, &mut each));
    lines.finish(&mut each);
    seen
}
