//! The table of all cells, compared with KEDA on the same test bed.

use std::fmt::Write as _;

use super::result::CellResult;

/// The results of KEDA with a `lagThreshold` of one or five seconds of one worker's work.
struct Keda {
    cell: &'static str,
    one_second: &'static str,
    five_seconds: &'static str,
}

/// KEDA of 2026-08-20 (its main branch) with the HPA of Kubernetes 1.34, on the same test bed with the same loads: late
/// records, ratio, and p99 where it was recorded.
const KEDA: [Keda; 6] = [
    Keda { cell: "flash-x30", one_second: "0 %, 2.88", five_seconds: "0 %, 1.33, p99 7.4 s" },
    Keda { cell: "flash-x12", one_second: "", five_seconds: "0.3 %, 1.24" },
    Keda { cell: "flash-x30-slow-start", one_second: "14.3 %, 2.84", five_seconds: "" },
    Keda { cell: "diurnal-x30", one_second: "0 %, 2.96", five_seconds: "0 %, 1.44, p99 6.3 s" },
    Keda { cell: "diurnal-x12", one_second: "", five_seconds: "6.2 %, 1.55" },
    Keda { cell: "step", one_second: "0 %, 2.58", five_seconds: "2.5 %, 1.60" },
];

pub(crate) fn table(results: &[CellResult]) -> String {
    let mut text = String::from(
        "| cell | late | p50 | p95 | p99 | ratio | decisions | staircase | a worker's speed | KEDA, 1 s of work: late, ratio | KEDA, 5 s of work |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for result in results {
        let keda = KEDA.iter().find(|keda| keda.cell == result.cell);
        let figure = |value: fn(&Keda) -> &'static str| keda.map(value).filter(|text| !text.is_empty()).unwrap_or("-");
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.2} | {} | {:.2} | {:.0}/s | {} | {} |",
            result.cell,
            percent(result.late_share),
            seconds(result.p50_seconds),
            seconds(result.p95_seconds),
            seconds(result.p99_seconds),
            result.ratio,
            result.decisions,
            result.measured.staircase_ratio,
            result.records_per_busy_second,
            figure(|keda| keda.one_second),
            figure(|keda| keda.five_seconds),
        );
    }
    text
}

/// Formats a share as a percentage with two significant digits; a small share is not rounded to zero.
fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent <= 0.0 => "0 %".to_owned(),
        percent if percent < 0.001 => "< 0.001 %".to_owned(),
        percent if percent < 0.1 => format!("{percent:.3} %"),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    }
}

fn seconds(quantile: Option<f64>) -> String {
    quantile.map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.2} s"))
}
