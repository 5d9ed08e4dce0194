//! The signals that ask a command to end: Ctrl-C, SIGTERM, and the hang-up of a closed terminal.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The conventional exit codes of a program that a signal ended: 128 plus the signal's number.
const HUNG_UP: u8 = 129;
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Receives termination signals. From [`TerminationSignals::listen`] on they no longer end the process by themselves.
pub(super) struct TerminationSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl TerminationSignals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal and returns the exit code that belongs to it.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => TERMINATED,
            _ = self.hang_up.recv() => HUNG_UP,
        }
    }
}
