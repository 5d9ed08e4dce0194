//! The cost of a record: a wait, which stands for a call to another service, and processor time.

use std::hint::black_box;
use std::time::Duration;

use tokio::time::Instant;

use sluice_base::clock::Clock;

/// Number of calibration runs. The fastest one counts, because every disturbance makes a run slower.
const RUNS: u32 = 20;
const ROUNDS_PER_RUN: u64 = 200_000;

/// The cost of one record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Wait for each record.
    pub wait: Duration,
    /// Processor time for each record.
    pub cpu: Duration,
}

/// A [`Cost`] on this computer.
#[derive(Debug, Clone)]
pub(super) struct SimulatedWork {
    wait: Duration,
    rounds: u64,
    clock: Clock,
}

impl SimulatedWork {
    /// Measures how many rounds of arithmetic take the processor time.
    ///
    /// The work is a fixed amount of arithmetic rather than a loop on the clock, so that a worker with less processor
    /// time becomes slower, as real work does.
    pub(super) async fn measure(cost: Cost, clock: Clock) -> Self {
        let rounds = if cost.cpu.is_zero() { 0 } else { calibrate(cost.cpu, clock.clone()).await };
        Self { wait: cost.wait, rounds, clock }
    }

    /// Does the work of a record that begins at `begin`. Returns when it ended by the work's own clock.
    pub(super) async fn perform(&self, begin: Instant) -> Instant {
        let mut end = begin;
        if !self.wait.is_zero() {
            end += self.wait;
            // If the work is dated back (scheduler.rs), the wait may be over already, and the timer would round up to
            // the next millisecond.
            if end > self.clock.monotonic() {
                tokio::time::sleep_until(end).await;
            }
        }
        if self.rounds > 0 {
            let rounds = self.rounds;
            // Outside the async threads, which answer the probes and send the heartbeats. It only fails at shutdown.
            let _ = tokio::task::spawn_blocking(move || burn(rounds)).await;
            end = self.clock.monotonic();
        }
        if self.wait.is_zero() && self.rounds == 0 {
            tokio::task::consume_budget().await;
        }
        end
    }
}

async fn calibrate(cpu: Duration, clock: Clock) -> u64 {
    let fastest = tokio::task::spawn_blocking(move || {
        let run = || {
            let begin = clock.monotonic();
            burn(ROUNDS_PER_RUN);
            begin.elapsed()
        };
        (0..RUNS).map(|_| run()).min().unwrap_or(Duration::from_millis(1))
    })
    .await
    .unwrap_or(Duration::from_millis(1));
    let rounds = cpu.as_nanos() * u128::from(ROUNDS_PER_RUN) / fastest.as_nanos().max(1);
    u64::try_from(rounds).unwrap_or(u64::MAX).max(1)
}

/// Computes what no compiler can remove: a xorshift generator, whose rounds depend on each other.
fn burn(rounds: u64) {
    let mut state = black_box(0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
}
