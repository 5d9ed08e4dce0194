//! Faults between a client and the API server: crashes, lost answers, refusals, streams that break, stall or tell of the
//! past, all as planned.
//!
//! A [`Plan`] is a value. [`Faults`] holds what was planned for one client over all its lives; each time that the client
//! starts, it is given a new connection ([`Faults::connect`]). The requests are counted in the order in which they come,
//! so that under paused time and a seed a plan does the same each time. Every request is kept, as an audit log would.

mod plan;
mod service;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::Request;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use plan::{Act, Asked, Fault, Harm, ParsePlanError, Plan};
pub use service::{Broken, Faulty};

use super::clock::Clock;
use super::request::{self, Path, Query, ResourcePath};
use super::service::InMemory;

/// What is planned for a client, and what it has asked for so far. Clones are the same.
#[derive(Debug, Clone)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    clock: Clock,
}

/// So many requests are heard: a client that asks for more than this is one that never stops.
const MOST: usize = 20_000;

#[derive(Debug, Default)]
struct State {
    /// With how many requests each has met.
    plan: Vec<(Fault, u32)>,
    life: u32,
    asked: Vec<Record>,
}

/// One request, for the audit log.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it came.
    pub at: Instant,
    /// In which life of the client, from 1.
    pub life: u32,
    /// What it asked for.
    pub act: Act,
    /// Of what.
    pub path: ResourcePath,
    /// The code that it was answered with, if it was.
    pub code: Option<u16>,
    /// When the server had done it. `None`: it has not, or has not been asked.
    pub done: Option<Instant>,
    /// What was done to it.
    pub harm: Option<Harm>,
}

impl Record {
    /// Plural, and subresource if any: `deployments/scale`.
    pub fn resource(&self) -> String {
        resource(&self.path)
    }
}

fn resource(path: &ResourcePath) -> String {
    let (plural, subresource) = (&path.plural, &path.subresource);
    if subresource.is_empty() { plural.clone() } else { format!("{plural}/{subresource}") }
}

impl Faults {
    /// Nothing has been asked yet.
    pub fn new(plan: &Plan, clock: Clock) -> Self {
        let plan = plan.0.iter().map(|fault| (fault.clone(), 0)).collect();
        Self { state: Arc::new(Mutex::new(State { plan, ..State::default() })), clock }
    }

    /// A connection for a client that starts now. What is returned beside it tells when the client has crashed: whoever runs it
    /// must end it then. It gets no answer any more.
    pub fn connect(&self, server: InMemory) -> (Faulty, CancellationToken) {
        let life = {
            let mut state = self.state();
            state.life += 1;
            state.life
        };
        let crashed = CancellationToken::new();
        (Faulty { faults: self.clone(), life, crashed: crashed.clone(), server }, crashed)
    }

    /// Every request so far, in the order in which they came. Those for no object and no collection are left out.
    pub fn requests(&self) -> Vec<Record> {
        self.state().asked.clone()
    }

    /// Whether more was asked than is ever answered. What comes then is heard by nobody, so that time goes on.
    pub fn too_many(&self) -> bool {
        self.state().asked.len() >= MOST
    }

    /// Whether each fault has met a request that it is for. A plan with one that has not shows nothing.
    pub fn all_done(&self) -> bool {
        self.state().plan.iter().all(|(fault, met)| *met >= fault.asked.from)
    }

    /// Nothing more goes wrong. What has begun goes on: a stream that is silent for a while, a request that is on its way.
    pub fn calm(&self) {
        self.state().plan.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request: its number in the log, and what is to happen to it.
    fn hear<B>(&self, life: u32, request: &Request<B>) -> Option<(usize, Option<Harm>)> {
        let Path::Resource(path) = request::path(request.uri().path()) else { return None };
        let act = act(request, &path);
        let mut state = self.state();
        let mut harm = None;
        for (fault, met) in &mut state.plan {
            let asked = &fault.asked;
            let meant = asked.life.is_none_or(|wanted| wanted == life)
                && asked.act.covers(act)
                && asked.resource.as_ref().is_none_or(|wanted| *wanted == resource(&path));
            if meant {
                *met += 1;
                if (asked.from..=asked.to).contains(met) {
                    harm = harm.or(Some(fault.harm));
                }
            }
        }
        state.asked.push(Record { at: self.clock.monotonic(), life, act, path, code: None, done: None, harm });
        Some((state.asked.len() - 1, harm))
    }

    /// Takes note of an answer; `done`: it is the server's.
    fn answered(&self, number: usize, code: u16, done: bool) {
        let now = self.clock.monotonic();
        if let Some(record) = self.state().asked.get_mut(number) {
            (record.code, record.done) = (Some(code), done.then_some(now));
        }
    }
}

fn act<B>(request: &Request<B>, path: &ResourcePath) -> Act {
    match request.method().as_str() {
        "POST" => Act::Create,
        "PUT" => Act::Update,
        "PATCH" => Act::Patch,
        "DELETE" => Act::Delete,
        _ if Query::parse(request.uri().query().unwrap_or_default()).flag("watch") => Act::Watch,
        _ if path.name.is_empty() => Act::List,
        _ => Act::Get,
    }
}
