//! Prints the progress on stderr, and how the time was spent.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sluice_base::clock::Clock;
use sluice_bench::{Job, Who};

pub(crate) struct Progress {
    clock: Clock,
    begin: f64,
    rounds: usize,
    /// Seconds of one thread, by kind of job.
    spent: BTreeMap<&'static str, (usize, f64)>,
}

/// One round of jobs that run in parallel.
pub(crate) struct Round {
    clock: Clock,
    begin: f64,
    number: usize,
    jobs: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: usize,
    printed_at: f64,
    spent: BTreeMap<&'static str, (usize, f64)>,
}

impl Progress {
    pub(crate) fn new(clock: Clock) -> Self {
        let begin = clock.now().0;
        Self { clock, begin, rounds: 0, spent: BTreeMap::new() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.clock.now().0 - self.begin
    }

    pub(crate) fn round(&mut self, jobs: usize) -> Round {
        self.rounds += 1;
        Round { clock: self.clock.clone(), begin: self.begin, number: self.rounds, jobs, state: Mutex::default() }
    }

    pub(crate) fn end(&mut self, round: Round) {
        let state = round.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (kind, (count, seconds)) in state.spent {
            let sum = self.spent.entry(kind).or_default();
            *sum = (sum.0 + count, sum.1 + seconds);
        }
    }

    /// Prints how long each kind of job took.
    pub(crate) fn print_times(&self) {
        eprintln!("{:.0} s; of the threads' time:", self.seconds());
        for (kind, (count, seconds)) in &self.spent {
            eprintln!("  {kind}: {count} runs, {seconds:.0} s");
        }
    }
}

impl Round {
    /// Runs a job and records how long it took.
    pub(crate) fn timed<A>(&self, job: &Job, work: impl FnOnce() -> A) -> A {
        let begin = self.clock.now().0;
        let answer = work();
        let now = self.clock.now().0;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = state.spent.entry(kind(job)).or_default();
        *sum = (sum.0 + 1, sum.1 + now - begin);
        state.done += 1;
        if now - state.printed_at >= 10.0 {
            state.printed_at = now;
            eprintln!("{:5.0} s: round {}, {} of {} runs", now - self.begin, self.number, state.done, self.jobs);
        }
        answer
    }
}

fn kind(job: &Job) -> &'static str {
    match job {
        Job::Run(key) => match key.who {
            Who::Sluice(_) => "Sluice",
            Who::Peer(_) => "peers",
            Who::Fixed(_) => "fixed numbers",
        },
        Job::Bound(_) => "lower bounds",
        Job::Fault { .. } => "faults",
    }
}
