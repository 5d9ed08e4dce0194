//! Reads the traces: files `real_*.csv` and `synth_*.csv`.

use std::fs;
use std::path::Path;

use sluice_bench::{Kind, Trace};
use sluice_simulate::Load;
use sluice_simulate::trace::{self, Gaps};

/// Returns all traces of a directory, sorted by name.
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
        // The gaps of a recorded load, such as a night without users, belong to it.
        let points = trace::read(path, Gaps::Allowed).map_err(|error| error.to_string())?;
        traces.push(Trace::new(&stem, kind, Load::from_points(&points)));
    }
    if traces.is_empty() {
        return Err(format!("{} has no traces: files real_*.csv or synth_*.csv", directory.display()));
    }
    Ok(traces)
}
