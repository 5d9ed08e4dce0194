//! Benchmark of `sluice decide` from standard input to standard output, with 24 partitions and 6 workers. The goal is
//! at least 20,000 observations per second.

#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros make undocumented items; a bench may fail loudly
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // offsets and counts far below 2^52

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sluice_bench::observed_job::Job;

/// Eleven hours of a job, so that the start of the process is negligible.
const LINES: u32 = 20_000;

fn decide(criterion: &mut Criterion) {
    let observations = Path::new(env!("CARGO_TARGET_TMPDIR")).join("observations.jsonl");
    let mut file = BufWriter::new(File::create(&observations).unwrap());
    let job = Job { partitions: 24, workers: 6, after: 1.0, busy: 0.8 };
    for line in 0..LINES {
        serde_json::to_writer(&mut file, &job.observation(line)).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.flush().unwrap();
    println!("{} bytes per line", std::fs::metadata(&observations).unwrap().len() / u64::from(LINES));

    let mut group = criterion.benchmark_group("sluice decide");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(u64::from(LINES)));
    group.bench_function("24 partitions, 6 workers", |bench| {
        bench.iter(|| {
            let status = Command::new(env!("CARGO_BIN_EXE_sluice"))
                .args(["decide", "--job", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders.yaml")])
                .stdin(File::open(&observations).unwrap())
                .stdout(Stdio::null())
                .status();
            assert!(status.unwrap().success());
        });
    });
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
