//! The command line.

use std::path::{Path, PathBuf};

use super::cells::{CELLS, Cell};

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) cells: Vec<Cell>,
    /// No load is longer.
    pub(crate) minutes: Option<f64>,
    pub(crate) out: PathBuf,
    /// How the workers' group shares its partitions out.
    pub(crate) group_protocol: String,
}

pub(crate) fn help() -> String {
    let cells: Vec<String> = CELLS.iter().map(|cell| format!("    {:24} {}", cell.name, cell.words())).collect();
    format!(
        "\
Sluice on a real Kubernetes and a real Kafka, with container workers whose work takes time.

  make bench-real                             all cells; the table goes to docs/benchmark.md
  make bench-real CELLS=\"flash-x30 step\"      some
  make bench-real CELLS=step MINUTES=2        only the first minutes of a load

  --cells \"NAME ...\"       cells to run [all]
  --minutes N              cut each load after so many minutes
  --out DIR                where table.md, results.json and a log for each cell are written [bench-real beside the build]
  --group-protocol NAME    classic, or consumer (KIP-848, heartbeats every second) [consumer]

cells:
{}",
        cells.join("\n")
    )
}

impl Args {
    /// `None`: help is wanted.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map(Path::to_owned).unwrap_or_default();
        let mut args = Self {
            cells: CELLS.to_vec(),
            minutes: None,
            out: beside.join("bench-real"),
            group_protocol: "consumer".to_owned(),
        };
        let mut words = words.filter(|word| word != "--bench"); // cargo adds it
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| format!("{word}: there is no such option, or it wants a value"))?;
            match word.as_str() {
                "--cells" => args.cells = named(&value)?,
                "--minutes" => {
                    let minutes = value.parse().ok().filter(|minutes| (0.1..=60.0).contains(minutes));
                    args.minutes = Some(minutes.ok_or_else(|| format!("{word} wants a number from 0.1 to 60"))?);
                }
                "--out" => args.out = value.into(),
                "--group-protocol" if ["classic", "consumer"].contains(&value.as_str()) => args.group_protocol = value,
                "--group-protocol" => return Err(format!("{word} is classic or consumer, not {value}")),
                _ => return Err(format!("{word}: there is no such option")),
            }
        }
        Ok(Some(args))
    }

    /// Whether this run can stand in the document: every cell, at its length, as it is meant.
    pub(crate) fn is_whole(&self) -> bool {
        self.minutes.is_none() && self.group_protocol == "consumer" && self.cells.len() == CELLS.len()
    }
}

fn named(names: &str) -> Result<Vec<Cell>, String> {
    let find = |name: &str| {
        let found = CELLS.iter().find(|cell| cell.name == name).copied();
        found.ok_or_else(|| format!("there is no cell {name}; there are {}", CELLS.map(|cell| cell.name).join(", ")))
    };
    names.split([' ', ',']).filter(|name| !name.is_empty()).map(find).collect()
}
