//! Benchmarks the metrics parser on a page of 1.2 MB with 20,000 series, of which a scraper wants a few, or all.
//!
//! For comparison, on the same page and machine: prometheus-parse 1.9-2.6 us a sample, nom-openmetrics 1.3-1.7,
//! `prom_text_format_parser` 1.7-2.0 (release builds; each of them misparses something, see
//! `signals/prometheus_text.rs`).

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_base::units::Seconds;
use sluice_signals::prometheus_text::{self, Line, LineSplitter};
use sluice_signals::scrape::MetricsPage;

const SERIES: usize = 20_000;

/// Returns a page as a worker writes it, with many other metrics.
fn page() -> String {
    let mut page = String::new();
    for number in 0..SERIES {
        let partition = number % 100;
        let _ = match number % 200 {
            0 => writeln!(page, "sluice_worker_records_processed_total{{source=\"s{number}\"}} {number}"),
            1 => writeln!(page, "sluice_worker_next_offset{{topic=\"orders\",partition=\"{partition}\"}} {number}"),
            _ => writeln!(page, "http_request_seconds_bucket{{path=\"/v1/{number}\",le=\"0.5\"}} {number}"),
        };
    }
    page
}

fn all(page: &str) -> usize {
    let mut samples = 0;
    let mut lines = LineSplitter::default();
    let mut each = |line: &[u8]| {
        if let Line::Sample(sample) = prometheus_text::parse_line(line, |_| true) {
            samples += sample.labels.iter().count();
            black_box(sample.value);
        }
    };
    for piece in page.as_bytes().chunks(16 << 10) {
        lines.feed(piece, &mut each);
    }
    lines.finish(&mut each);
    samples
}

fn wanted(page: &str) -> Option<f64> {
    let topics = ["orders".to_owned()];
    let mut read = MetricsPage::new(&topics);
    let mut lines = LineSplitter::default();
    for piece in page.as_bytes().chunks(16 << 10) {
        lines.feed(piece, |line| read.read_line(line));
    }
    lines.finish(|line| read.read_line(line));
    read.into_sample(Seconds(0.0)).ok()?.processed
}

fn scrape(criterion: &mut Criterion) {
    let page = page();
    println!("{} bytes", page.len());
    let mut group = criterion.benchmark_group("scrape");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("all series, with labels", |bencher| bencher.iter(|| all(black_box(&page))));
    group.bench_function("a worker's few", |bencher| bencher.iter(|| wanted(black_box(&page))));
    group.finish();
}

criterion_group!(benches, scrape);
criterion_main!(benches);
