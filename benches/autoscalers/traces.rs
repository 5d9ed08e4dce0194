//! The traces as files: `real_*.csv` and `synth_*.csv`, a line `seconds,records per second` for each point.

use std::fs;
use std::path::Path;

use sluice::simulate::Load;
use sluice::simulate::benchmark::{Kind, Trace};

/// All traces of a directory, by name.
pub(crate) fn read(directory: &Path) -> Result<Vec<Trace>, String> {
    let failed = |error| format!("failed to read the traces in {}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    let mut traces = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "csv")) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let kind = match stem.split('_').next() {
            Some("real") => Kind::Real,
            Some("synth") => Kind::Synthetic,
            _ => continue,
        };
        let text = fs::read_to_string(path).map_err(failed)?;
        traces.push(Trace::new(&stem, kind, load(&text)));
    }
    if traces.is_empty() {
        return Err(format!("{} has no traces: files real_*.csv or synth_*.csv", directory.display()));
    }
    Ok(traces)
}

/// The heading and whatever else is no pair of numbers is passed over.
fn load(csv: &str) -> Load {
    let pair = |line: &str| {
        let (time, rate) = line.split_once(',')?;
        Some((time.trim().parse::<f64>().ok()?, rate.trim().parse::<f64>().ok()?))
    };
    Load::from_points(&csv.lines().filter_map(pair).collect::<Vec<_>>())
}
