//! Injects faults into streams of lines: they break, stall, repeat lines, or show old state.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Broken, Harm};
use crate::status::Status;
use crate::store::Store;

/// The next step of a stream.
enum Step {
    Line(Bytes),
    Break,
    End,
}

/// Returns the body of a watch with a fault injected.
pub(super) fn with_fault(body: Body, harm: Harm, store: Store) -> Body {
    let lines = Lines { body: body.into_data_stream(), buffer: Vec::new(), ready: VecDeque::new() };
    let state = FaultyStream { lines, phase: Phase::Harm(harm), sent: 0, repeat: None, store };
    Body::from_stream(stream::unfold(state, |mut state| async move {
        match state.next().await {
            Step::Line(line) => Some((Ok(line), state)),
            Step::Break => Some((Err(Broken), FaultyStream { phase: Phase::End, ..state })),
            Step::End => None,
        }
    }))
}

/// The phase of a stream.
#[derive(Clone, Copy)]
enum Phase {
    /// The fault is still to be injected.
    Harm(Harm),
    /// The fault is over: the remaining lines are forwarded.
    Pass,
    /// The stream breaks.
    Break,
    /// The stream ends.
    End,
}

struct FaultyStream {
    lines: Lines,
    phase: Phase,
    /// The number of lines that have been sent.
    sent: u32,
    /// The line to be sent a second time.
    repeat: Option<Bytes>,
    store: Store,
}

impl FaultyStream {
    async fn next(&mut self) -> Step {
        let harm = match self.phase {
            Phase::Pass => return self.lines.next().await.map_or(Step::End, Step::Line),
            Phase::Break => return Step::Break,
            Phase::End => return Step::End,
            Phase::Harm(harm) => harm,
        };
        match harm {
            Harm::Expire => {
                self.phase = Phase::End;
                return Step::Line(expired());
            }
            Harm::Stall(seconds) => {
                sleep(Duration::from_secs(seconds.into())).await;
                self.phase = Phase::Pass;
            }
            Harm::Twice => {
                if let Some(line) = self.repeat.take() {
                    return Step::Line(line);
                }
            }
            _ => {}
        }
        let Some(line) = self.lines.next().await else { return Step::End };
        self.sent += 1;
        match harm {
            Harm::Cut(whole) if self.sent > whole => {
                self.phase = Phase::Break;
                return Step::Line(line.slice(..line.len() / 2));
            }
            Harm::Twice => self.repeat = Some(line.clone()),
            Harm::Hold(newest, seconds) if revision(&line) > newest => {
                sleep(Duration::from_secs(seconds.into())).await;
                self.phase = Phase::Pass;
            }
            Harm::Overtaken(newest, reached) if revision(&line) > newest => {
                let _ = timeout(OVERTAKE_TIMEOUT, wait_for_revision(&self.store, reached)).await;
                self.phase = Phase::Pass;
            }
            Harm::Gap(from, to) if revision(&line) >= from => {
                self.phase = Phase::End;
                // The second revision may depend on the client itself, so the wait for it is limited.
                let _ = timeout(GAP_TIMEOUT, self.lines.skip_to(revision(&line), to)).await;
                return Step::Line(expired());
            }
            _ => {}
        }
        Step::Line(line)
    }
}

/// Returns the revision of a line; 0 if it has none.
fn revision(line: &[u8]) -> u64 {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let version = line.pointer("/object/metadata/resourceVersion").and_then(Value::as_str);
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn expired() -> Bytes {
    let status = Status::expired("a planned fault: too old resource version").to_value();
    Bytes::from(format!("{}\n", serde_json::json!({"type": "ERROR", "object": status})))
}

/// The longest time for which an overtaken stream waits, whatever the store's revision.
const OVERTAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until the store has reached a revision, and 100 ms longer, so that clients that see it can act on it.
async fn wait_for_revision(store: &Store, reached: u64) {
    while store.revision() < reached {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(100)).await;
}

/// The longest duration of a gap.
const GAP_TIMEOUT: Duration = Duration::from_secs(30);

/// The lines of a body.
struct Lines {
    body: BodyDataStream,
    buffer: Vec<u8>,
    ready: VecDeque<Bytes>,
}

impl Lines {
    /// Skips lines until one of the revision `wanted`, or the end.
    async fn skip_to(&mut self, mut seen: u64, wanted: u64) {
        while seen < wanted {
            let Some(line) = self.next().await else { return };
            seen = revision(&line);
        }
    }

    /// Returns the next complete line, with its line feed.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            self.buffer.extend_from_slice(&self.body.next().await?.ok()?);
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                self.ready.push_back(Bytes::from(self.buffer.drain(..=end).collect::<Vec<u8>>()));
            }
        }
    }
}
