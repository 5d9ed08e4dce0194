//! Compares Sluice, in worlds drawn at random, with peers that are tuned to each world.
//!
//! `cargo bench --bench field -- --help` lists the options.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)] // a command: tables on stdout, progress on stderr
#![allow(clippy::cast_precision_loss)] // a few hundred worlds

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_base::clock::Clock;
use sluice_simulate::field::{
    Figures, Operator, Outcome, PLANT_VERSION, Peer, Row, World, conditions, line, peers, report, run,
};

const HELP: &str = "\
Compare Sluice, in worlds drawn at random, with peers that are tuned to each world.

  cargo bench --bench field -- [OPTIONS]

  --set tuned|reported   Use the seeds that the core is tuned on, or those that are reported [tuned]
  --draws N              Run N worlds of the set [60]
  --only SEED            Run only the world of SEED, with all peers
  --trace                With --only: print each decision, and the state once a minute
  --all                  Print a line for every world
  --no-peers             Run Sluice alone
  --jobs N               Run N worlds in parallel [one for each core]
  --cache DIR            Keep the peers' figures in DIR [target/field]";

#[allow(clippy::struct_excessive_bools)] // flags of a command line
struct Args {
    reported: bool,
    draws: usize,
    only: Option<u64>,
    trace: bool,
    all: bool,
    peers: bool,
    jobs: usize,
    cache: PathBuf,
}

impl Args {
    /// Parses the arguments; `None` asks for the help.
    fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut args = Self {
            reported: false,
            draws: 60,
            only: None,
            trace: false,
            all: false,
            peers: true,
            jobs: std::thread::available_parallelism().map_or(1, Into::into),
            cache: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/field"),
        };
        let mut words = words.filter(|word| word != "--bench"); // cargo adds it
        while let Some(word) = words.next() {
            match word.as_str() {
                "--trace" => args.trace = true,
                "--all" => args.all = true,
                "--no-peers" => args.peers = false,
                "--help" | "-h" => return Ok(None),
                _ => {
                    let value =
                        words.next().ok_or_else(|| format!("{word}: unknown option, or its value is missing"))?;
                    match word.as_str() {
                        "--set" if value == "tuned" || value == "reported" => args.reported = value == "reported",
                        "--draws" => args.draws = number(&word, &value)?,
                        "--only" => args.only = Some(number(&word, &value)?),
                        "--jobs" => args.jobs = number::<usize>(&word, &value)?.max(1),
                        "--cache" => args.cache = value.into(),
                        _ => return Err(format!("{word} {value}: unknown option or value")),
                    }
                }
            }
        }
        Ok(Some(args))
    }

    fn seeds(&self) -> Vec<u64> {
        match self.only {
            Some(seed) => vec![seed],
            None => (0..).filter(|seed| is_reported(*seed) == self.reported).take(self.draws).collect(),
        }
    }
}

fn number<T: FromStr>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{word}: expected a whole number, found {value}"))
}

/// The two sets have no seed in common.
fn is_reported(seed: u64) -> bool {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1
}

pub(crate) fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    let clock = Clock::system();
    let since = clock.now().0;
    let cache = Cache::open(&args.cache);
    let seeds = args.seeds();
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let world = World::draw(*seed);
            let mut operator = Operator::for_world(&world);
            if args.trace {
                operator = operator.with_decisions();
            }
            let at = clock.now().0;
            let sluice = run(&world, &mut operator);
            let took = clock.now().0 - at;
            if args.trace {
                println!("{}", conditions(&world));
                trace(&sluice, &operator.decisions.unwrap_or_default());
            }
            let peers = if args.peers { cache.peers(&world) } else { Vec::new() };
            if let Ok(mut rows) = rows.lock() {
                rows.push((took, Row { world, sluice, peers }));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(work);
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|(_, row)| row.world.seed);
    let runs: f64 = rows.iter().map(|(took, _)| took).sum();
    let slowest =
        rows.iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or((0.0, 0), |(took, row)| (*took, row.world.seed));
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    if args.all || args.only.is_some() || !args.peers {
        for row in &rows {
            println!("{}", line(row));
        }
    }
    if args.only.is_some() {
        for peer in rows.iter().flat_map(|row| &row.peers) {
            println!("{}", describe(peer));
        }
    } else {
        println!("{}", report(&rows));
    }
    eprintln!(
        "{:.1} s; sluice {:.2} s a run, slowest {:.1} s (seed {})",
        clock.now().0 - since,
        runs / rows.len().max(1) as f64,
        slowest.0,
        slowest.1
    );
    ExitCode::SUCCESS
}

fn describe(peer: &Peer) -> String {
    let Figures { late, worker_seconds, p99, changes_per_hour } = peer.figures;
    format!(
        "{:10} {:7.3} % late, p99 {p99:8.1} s, {worker_seconds:9.0} worker-seconds, {changes_per_hour:.1} changes/h",
        peer.name,
        100.0 * late
    )
}

fn trace(outcome: &Outcome, decisions: &[(f64, u32, String)]) {
    let mut decisions = decisions.iter().peekable();
    for minute in &outcome.minutes {
        while let Some((at, workers, sentence)) = decisions.next_if(|decision| decision.0 <= minute.at) {
            println!("{at:9.1} s  {workers:4}  {sentence}");
        }
        println!(
            "{:6.0} min  rate {:.1}, needs {:.2}, wanted {}, in the group {}, {:.0} records waiting, the oldest {:.1} s",
            minute.at / 60.0,
            minute.rate,
            minute.need,
            minute.desired,
            minute.joined,
            minute.backlog,
            minute.age
        );
    }
}

/// The peers' figures, kept in a file for each world: they depend on the world and the plant alone.
struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    fn open(folder: &std::path::Path) -> Self {
        let made = std::fs::create_dir_all(folder);
        if let Err(error) = &made {
            eprintln!("failed to create {}: {error}; the peers' figures are not kept", folder.display());
        }
        Self { folder: made.is_ok().then(|| folder.to_path_buf()) }
    }

    fn peers(&self, world: &World) -> Vec<Peer> {
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{:016x}", key(world))));
        let kept = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(found) = kept.and_then(|text| text.lines().map(read).collect::<Option<Vec<_>>>()) {
            return found;
        }
        let found = peers(world);
        let mut text = String::new();
        for Peer { name, figures: f } in &found {
            let _ = writeln!(text, "{name} {:?} {:?} {:?} {:?}", f.late, f.worker_seconds, f.p99, f.changes_per_hour);
        }
        if let Some(Err(error)) = path.map(|path| std::fs::write(path, text)) {
            eprintln!("failed to keep the peers' figures of seed {}: {error}", world.seed);
        }
        found
    }
}

/// Hashes everything that the peers' figures depend on. Signals that only the operator sees do not affect them.
fn key(world: &World) -> u64 {
    let defaults = World::default();
    let seen = World {
        signals: defaults.signals,
        jitter: defaults.jitter,
        missed: defaults.missed,
        restart_at: None,
        ..world.clone()
    };
    let mut hasher = DefaultHasher::new();
    (PLANT_VERSION, format!("{seen:?}")).hash(&mut hasher);
    hasher.finish()
}

fn read(line: &str) -> Option<Peer> {
    let mut words = line.split(' ');
    let name = words.next()?.to_owned();
    let numbers: Vec<f64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
    let [late, worker_seconds, p99, changes_per_hour] = numbers.as_slice() else { return None };
    let figures =
        Figures { late: *late, worker_seconds: *worker_seconds, p99: *p99, changes_per_hour: *changes_per_hour };
    Some(Peer { name, figures })
}
