//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

pub(crate) const HELP: &str = "\
Compare Sluice with other autoscalers on a simulated job.

  cargo bench --bench autoscalers -- [OPTIONS]

  --quick          Run one seed, objective 10 s, handover by partition, nothing tuned: about a minute
  --filter TEXT    Run only cells whose GROUP/TRACE contains TEXT, such as handoff/real_flash
  --seeds N        Run N seeds for each cell [5]
  --threads N      Run N simulations in parallel [one for each core]
  --traces DIR     Read the traces in DIR [examples/traces, or the variable SLUICE_TRACES]
  --cache FILE     Keep the results of peers and lower bounds in FILE and reuse them: for work on crates/policy alone;
                   delete FILE when crates/simulate changes
  --write FILE     Write the tables between their two markers in FILE
  --plots DIR      Draw a plot of each trace into DIR
  --date DATE      Use DATE for --write [today]";

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) quick: bool,
    pub(crate) filter: Option<String>,
    pub(crate) seeds: u64,
    pub(crate) threads: usize,
    pub(crate) traces: PathBuf,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) write: Option<PathBuf>,
    pub(crate) plots: Option<PathBuf>,
    pub(crate) date: Option<String>,
}

impl Args {
    /// Parses the arguments; `None` asks for the help.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut args = Self {
            quick: false,
            filter: None,
            seeds: 5,
            threads: std::thread::available_parallelism().map_or(1, Into::into),
            traces: std::env::var_os("SLUICE_TRACES").map_or_else(|| home.join("../../examples/traces"), PathBuf::from),
            cache: None,
            write: None,
            plots: None,
            date: None,
        };
        let mut words = words.filter(|word| word != "--bench"); // cargo adds it
        while let Some(word) = words.next() {
            if word == "--quick" {
                args.quick = true;
                continue;
            }
            if word == "--help" || word == "-h" {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| format!("{word}: unknown option, or its value is missing"))?;
            match word.as_str() {
                "--filter" => args.filter = Some(value),
                "--seeds" => args.seeds = number(&word, &value)?,
                "--threads" => args.threads = number(&word, &value)?,
                "--traces" => args.traces = value.into(),
                "--cache" => args.cache = Some(value.into()),
                "--write" => args.write = Some(value.into()),
                "--plots" => args.plots = Some(value.into()),
                "--date" => args.date = Some(value),
                _ => return Err(format!("{word}: unknown option")),
            }
        }
        Ok(Some(args))
    }
}

fn number<T: FromStr>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{word}: expected a whole number, found {value}"))
}
