//! The arguments of the benchmark.

use std::path::{Path, PathBuf};

use super::cells::{CELLS, Cell};

/// The parsed arguments.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) cells: Vec<Cell>,
    /// Maximum length of each load, minutes.
    pub(crate) minutes: Option<f64>,
    pub(crate) out: PathBuf,
    /// Group protocol of the workers.
    pub(crate) group_protocol: String,
}

pub(crate) fn help() -> String {
    let cells: Vec<String> = CELLS.iter().map(|cell| format!("    {:24} {}", cell.name, cell.description())).collect();
    format!(
        "\
Benchmark Sluice on a real Kubernetes and a real Kafka, with container workers whose work takes time.

  make bench-real                             all cells; the table goes to docs/benchmark.md
  make bench-real CELLS=\"flash-x30 step\"      some cells
  make bench-real CELLS=step MINUTES=2        only the first two minutes of a load

  --cells \"NAME ...\"       run these cells [default: all]
  --minutes N              cut each load after N minutes
  --out DIR                write table.md, results.json and a log for each cell to DIR
                           [default: bench-real in the build folder]
  --group-protocol NAME    use classic or consumer (KIP-848, heartbeats every second) [default: consumer]

cells:
{}",
        cells.join("\n")
    )
}

impl Args {
    /// Parses the arguments. Returns `None` if the help is requested.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let build_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map(Path::to_owned).unwrap_or_default();
        let mut args = Self {
            cells: CELLS.to_vec(),
            minutes: None,
            out: build_folder.join("bench-real"),
            group_protocol: "consumer".to_owned(),
        };
        let mut words = words.filter(|word| word != "--bench"); // cargo adds it
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| format!("{word}: unknown option, or its value is missing"))?;
            match word.as_str() {
                "--cells" => args.cells = find_cells(&value)?,
                "--minutes" => {
                    let minutes = value.parse().ok().filter(|minutes| (0.1..=60.0).contains(minutes));
                    args.minutes = Some(minutes.ok_or_else(|| format!("{word}: expected a number from 0.1 to 60"))?);
                }
                "--out" => args.out = value.into(),
                "--group-protocol" if ["classic", "consumer"].contains(&value.as_str()) => args.group_protocol = value,
                "--group-protocol" => return Err(format!("{word}: expected classic or consumer, found {value}")),
                _ => return Err(format!("{word}: unknown option")),
            }
        }
        Ok(Some(args))
    }

    /// Returns whether the run may be published in the document: every cell at its full length, with the default
    /// protocol.
    pub(crate) fn is_complete(&self) -> bool {
        self.minutes.is_none() && self.group_protocol == "consumer" && self.cells.len() == CELLS.len()
    }
}

fn find_cells(names: &str) -> Result<Vec<Cell>, String> {
    let find = |name: &str| {
        let found = CELLS.iter().find(|cell| cell.name == name).copied();
        found.ok_or_else(|| format!("unknown cell {name}; choose from {}", CELLS.map(|cell| cell.name).join(", ")))
    };
    names.split([' ', ',']).filter(|name| !name.is_empty()).map(find).collect()
}
