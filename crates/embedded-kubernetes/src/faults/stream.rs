//! Streams of lines that break, stall, repeat themselves, or tell of the past.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Broken, Harm};
use crate::status::Status;
use crate::store::Store;

/// What comes next of a stream.
enum Next {
    Line(Bytes),
    Break,
    End,
}

/// The body of a watch, with what is done to it.
pub(super) fn harmed(body: Body, harm: Harm, store: Store) -> Body {
    let lines = Lines { body: body.into_data_stream(), buffer: Vec::new(), ready: VecDeque::new() };
    let state = Harmed { lines, course: Course::Harm(harm), told: 0, again: None, store };
    Body::from_stream(stream::unfold(state, |mut state| async move {
        match state.next().await {
            Next::Line(line) => Some((Ok(line), state)),
            Next::Break => Some((Err(Broken), Harmed { course: Course::End, ..state })),
            Next::End => None,
        }
    }))
}

/// How a stream goes on.
#[derive(Clone, Copy)]
enum Course {
    /// Something is to be done to it.
    Harm(Harm),
    /// All is done: the rest passes.
    Pass,
    /// It breaks.
    Break,
    /// It ends.
    End,
}

struct Harmed {
    lines: Lines,
    course: Course,
    /// Lines that have been passed on.
    told: u32,
    /// The line that is to come a second time.
    again: Option<Bytes>,
    store: Store,
}

impl Harmed {
    async fn next(&mut self) -> Next {
        let harm = match self.course {
            Course::Pass => return self.lines.next().await.map_or(Next::End, Next::Line),
            Course::Break => return Next::Break,
            Course::End => return Next::End,
            Course::Harm(harm) => harm,
        };
        match harm {
            Harm::Expire => {
                self.course = Course::End;
                return Next::Line(expired());
            }
            Harm::Stall(seconds) => {
                sleep(Duration::from_secs(seconds.into())).await;
                self.course = Course::Pass;
            }
            Harm::Twice => {
                if let Some(line) = self.again.take() {
                    return Next::Line(line);
                }
            }
            _ => {}
        }
        let Some(line) = self.lines.next().await else { return Next::End };
        self.told += 1;
        match harm {
            Harm::Cut(whole) if self.told > whole => {
                self.course = Course::Break;
                return Next::Line(line.slice(..line.len() / 2));
            }
            Harm::Twice => self.again = Some(line.clone()),
            Harm::Hold(newest, seconds) if revision(&line) > newest => {
                sleep(Duration::from_secs(seconds.into())).await;
                self.course = Course::Pass;
            }
            Harm::Overtaken(newest, reached) if revision(&line) > newest => {
                let _ = timeout(OVERTAKEN, at(&self.store, reached)).await;
                self.course = Course::Pass;
            }
            Harm::Gap(from, to) if revision(&line) >= from => {
                self.course = Course::End;
                // What the second is made of may be the client's own doing: it must not wait for that for ever.
                let _ = timeout(GAP, self.lines.reach(revision(&line), to)).await;
                return Next::Line(expired());
            }
            _ => {}
        }
        Next::Line(line)
    }
}

/// The revision of a line; 0 if it has none.
fn revision(line: &[u8]) -> u64 {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let version = line.pointer("/object/metadata/resourceVersion").and_then(Value::as_str);
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn expired() -> Bytes {
    let status = Status::expired("a fault that was planned: too old resource version").to_value();
    Bytes::from(format!("{}\n", serde_json::json!({"type": "ERROR", "object": status})))
}

/// How long others have time to overtake a stream.
const OVERTAKEN: Duration = Duration::from_secs(10);

/// Waits until the store is at a revision, and a little longer: who was told of that acts on it.
async fn at(store: &Store, reached: u64) {
    while store.revision() < reached {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(100)).await;
}

/// How long a gap lasts at most.
const GAP: Duration = Duration::from_secs(30);

/// A body, line by line.
struct Lines {
    body: BodyDataStream,
    buffer: Vec<u8>,
    ready: VecDeque<Bytes>,
}

impl Lines {
    /// Passes over lines up to one of a revision, or to the end.
    async fn reach(&mut self, mut seen: u64, wanted: u64) {
        while seen < wanted {
            let Some(line) = self.next().await else { return };
            seen = revision(&line);
        }
    }

    /// The next whole line, with its end.
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
