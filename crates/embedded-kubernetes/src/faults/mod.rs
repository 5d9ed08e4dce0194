//! Injects planned faults between a client and the API server: crashes, lost answers, refusals, and streams that
//! break, stall or show old state.
//!
//! A [`Plan`] is a value. [`Faults`] holds the plan for one client over all its lives; whenever the client starts, it
//! gets a new connection ([`Faults::connect`]). Requests are counted in the order of their arrival, so that under
//! paused time and with a seed a plan has the same effect each time. All requests are recorded, as in an audit log.

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

/// The fault plan of a client, and the requests that it has made so far. Clones share their state.
#[derive(Debug, Clone)]
pub struct Faults {
    state: Arc<Mutex<FaultState>>,
    clock: Clock,
}

/// The most requests that are recorded. A client that makes more is in an endless loop.
const MAX_REQUESTS: usize = 20_000;

#[derive(Debug, Default)]
struct FaultState {
    /// The faults, and how many requests each of them has matched.
    plan: Vec<(Fault, u32)>,
    life: u32,
    asked: Vec<Record>,
}

/// A request in the audit log.
#[derive(Debug, Clone)]
pub struct Record {
    /// The time of the request's arrival.
    pub at: Instant,
    /// The life of the client, counted from 1.
    pub life: u32,
    /// The kind of request.
    pub act: Act,
    /// The object or collection that was requested.
    pub path: ResourcePath,
    /// The status code of the answer, if there was one.
    pub code: Option<u16>,
    /// When the server completed the request. `None`: it did not, or never received it.
    pub done: Option<Instant>,
    /// The fault that was injected.
    pub harm: Option<Harm>,
}

impl Record {
    /// Returns the plural, and the subresource if there is one: `deployments/scale`.
    pub fn resource(&self) -> String {
        resource(&self.path)
    }
}

fn resource(path: &ResourcePath) -> String {
    let (plural, subresource) = (&path.plural, &path.subresource);
    if subresource.is_empty() { plural.clone() } else { format!("{plural}/{subresource}") }
}

impl Faults {
    /// Creates the faults of a plan, before any request.
    pub fn new(plan: &Plan, clock: Clock) -> Self {
        let plan = plan.0.iter().map(|fault| (fault.clone(), 0)).collect();
        Self { state: Arc::new(Mutex::new(FaultState { plan, ..FaultState::default() })), clock }
    }

    /// Creates a connection for a client that starts now. The returned token is cancelled when the client crashes; the
    /// caller must then stop the client, which gets no more answers.
    pub fn connect(&self, server: InMemory) -> (Faulty, CancellationToken) {
        let life = {
            let mut state = self.state();
            state.life += 1;
            state.life
        };
        let crashed = CancellationToken::new();
        (Faulty { faults: self.clone(), life, crashed: crashed.clone(), server }, crashed)
    }

    /// Returns all requests so far, in the order of their arrival. Requests that are not about an object or a
    /// collection are left out.
    pub fn requests(&self) -> Vec<Record> {
        self.state().asked.clone()
    }

    /// Returns whether the client has exceeded the limit of requests. Later ones are never answered, so that paused
    /// time advances.
    pub fn too_many(&self) -> bool {
        self.state().asked.len() >= MAX_REQUESTS
    }

    /// Returns whether each fault has matched a request. A test whose plan has unused faults proves nothing.
    pub fn all_done(&self) -> bool {
        self.state().plan.iter().all(|(fault, met)| *met >= fault.asked.from)
    }

    /// Removes all planned faults. Faults that have begun continue, such as a stalled stream or a delayed request.
    pub fn calm(&self) {
        self.state().plan.clear();
    }

    fn state(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request. Returns its number in the log, and the fault to inject.
    fn record_request<B>(&self, life: u32, request: &Request<B>) -> Option<(usize, Option<Harm>)> {
        let Path::Resource(path) = request::parse_path(request.uri().path()) else { return None };
        let act = act(request, &path);
        let mut state = self.state();
        let mut harm = None;
        for (fault, met) in &mut state.plan {
            let asked = &fault.asked;
            let matches = asked.life.is_none_or(|wanted| wanted == life)
                && asked.act.covers(act)
                && asked.resource.as_ref().is_none_or(|wanted| *wanted == resource(&path));
            if matches {
                *met += 1;
                if (asked.from..=asked.to).contains(met) {
                    harm = harm.or(Some(fault.harm));
                }
            }
        }
        state.asked.push(Record { at: self.clock.monotonic(), life, act, path, code: None, done: None, harm });
        Some((state.asked.len() - 1, harm))
    }

    /// Records the answer to a request. `done`: the server has answered, not an injected fault.
    fn record_answer(&self, number: usize, code: u16, done: bool) {
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
