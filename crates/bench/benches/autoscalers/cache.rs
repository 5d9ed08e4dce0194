//! Keeps the results of peers and bounds in a file between runs: neither depends on the policy. Sluice always runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use sluice_bench::{Answer, Bound, Job, Key, Outcome, Plan, Who};

/// The results: one line for each, with a hash of everything that it depends on, and its figures.
pub(crate) struct Cache {
    path: Option<PathBuf>,
    answers: BTreeMap<u64, String>,
}

impl Cache {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, String> {
        let mut answers = BTreeMap::new();
        if let Some(path) = path.filter(|path| path.exists()) {
            let text =
                fs::read_to_string(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
            let line = |line: &str| {
                let (hash, rest) = line.split_once(' ')?;
                Some((u64::from_str_radix(hash, 16).ok()?, rest.to_owned()))
            };
            answers.extend(text.lines().filter_map(line));
        }
        Ok(Self { path: path.map(Path::to_path_buf), answers })
    }

    pub(crate) fn get(&self, plan: &Plan, job: &Job) -> Option<Answer> {
        if self.answers.is_empty() {
            return None;
        }
        let line = self.answers.get(&hash(plan, job)?)?;
        if let Some(bound) = line.strip_prefix("bound ") {
            return Some(Answer::Bound(bound.parse().ok()?));
        }
        line.split(';').map(outcome).collect::<Option<_>>().map(Answer::Run)
    }

    pub(crate) fn put(&mut self, plan: &Plan, job: &Job, answer: &Answer) {
        if self.path.is_none() {
            return;
        }
        let line = match answer {
            Answer::Bound(value) => format!("bound {value:?}"),
            Answer::Run(outcomes) => outcomes.iter().map(written).collect::<Vec<_>>().join(";"),
            Answer::Fault(_) => return,
        };
        if let Some(hash) = hash(plan, job) {
            self.answers.insert(hash, line);
        }
    }

    pub(crate) fn save(&self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = self.answers.iter().fold(String::new(), |mut text, (hash, line)| {
            let _ = writeln!(text, "{hash:016x} {line}");
            text
        });
        fs::write(path, text).map_err(|error| format!("failed to write {}: {error}", path.display()))
    }
}

fn hash(plan: &Plan, job: &Job) -> Option<u64> {
    let (group, trace, rest) = match job {
        Job::Run(Key { who: Who::Sluice(_), .. }) | Job::Fault { .. } => return None,
        Job::Run(Key { group, trace, who, seed }) => (*group, *trace, format!("{who:?} {seed}")),
        Job::Bound(Bound { group, trace, latency, seed, weighted }) => {
            (*group, *trace, format!("{latency} {seed} {weighted}"))
        }
    };
    let (group, trace) = (plan.groups.get(group)?, plan.traces.get(trace)?);
    let mut hasher = DefaultHasher::new();
    format!("{:?} {:?} {rest}", group.scenario, group.latencies).hash(&mut hasher);
    trace.load.rates().iter().for_each(|rate| rate.to_bits().hash(&mut hasher));
    Some(hasher.finish())
}

fn written(outcome: &Outcome) -> String {
    let Outcome { latency, late, good_hours, worker_seconds, rescales, reversals } = outcome;
    format!("{latency} {late:?} {good_hours:?} {worker_seconds:?} {rescales} {reversals}")
}

fn outcome(text: &str) -> Option<Outcome> {
    let mut words = text.split(' ');
    Some(Outcome {
        latency: words.next()?.parse().ok()?,
        late: words.next()?.parse().ok()?,
        good_hours: words.next()?.parse().ok()?,
        worker_seconds: words.next()?.parse().ok()?,
        rescales: words.next()?.parse().ok()?,
        reversals: words.next()?.parse().ok()?,
    })
}
