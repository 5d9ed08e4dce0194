//! Runs a controller: passes it changes, asks which objects they affect, and lets it reconcile these one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Actor;
use crate::kinds::Resource;
use crate::random::Random;
use crate::status::Status;
use crate::store::{Change, Event, Expired, Watch};

/// The first wait after a failure. As in a real cluster, it doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// The longest wait after failures.
const LAST_RETRY: Duration = Duration::from_secs(1000);

/// The number of objects after which other controllers get a turn. In its turn each of them may read all its objects,
/// so a turn after every object would take quadratic time: 47 s for 1,000 pods in a debug build.
const OBJECTS_PER_TURN: usize = 50;

/// When an object must be reconciled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something changes.
    Change,
    /// After this many seconds, even if nothing changes.
    After(i64),
}

impl Next {
    /// Returns the sooner of the two.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
            (after @ Self::After(_), Self::Change) | (Self::Change, after) => after,
        }
    }
}

/// A controller.
pub(crate) trait Controller: Send + 'static {
    /// Returns the name of the controller for logs.
    fn name(&self) -> &'static str;
    /// Returns the resources whose changes the controller needs. Called again whenever a kind is added or removed.
    fn watched(&self, actor: &Actor) -> Vec<Resource>;
    /// Returns the keys of the objects to reconcile after a change. Objects that existed before the controller are
    /// passed as new ones.
    fn affected(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String>;
    /// Resets what the controller remembers of a resource. Changes have been missed, and all existing objects will be
    /// passed again.
    fn reset(&mut self, _: &Resource) {}
    /// Changes one thing after another until the object is in its desired state or something must be waited for.
    /// Called again after an error.
    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status>;
}

/// The delay with which controllers notice a change, for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// The longest delay. Zero: controllers notice changes at once.
    pub longest: Duration,
    /// The seed of the delays.
    pub seed: u64,
}

impl Pace {
    pub(super) fn for_controller(self, number: u64) -> Self {
        Self { seed: Random::seeded(self.seed ^ number).next(), ..self }
    }

    fn draw(&self, random: &Random) -> Duration {
        let longest = u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(random.next().checked_rem(longest).unwrap_or_default())
    }
}

/// The objects to reconcile, and when.
#[derive(Debug, Default)]
struct Queue {
    due: BTreeMap<String, Instant>,
    by_time: BTreeSet<(Instant, String)>,
    failures: BTreeMap<String, u32>,
}

impl Queue {
    /// Adds an object that must be reconciled at a time, or earlier.
    fn add(&mut self, key: String, at: Instant) {
        if let Some(due) = self.due.get(&key).copied() {
            if due <= at {
                return;
            }
            self.by_time.remove(&(due, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    fn earliest(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Removes and returns the objects that are due, in the order of their keys.
    fn take_due(&mut self, now: Instant) -> Vec<String> {
        let mut keys = Vec::new();
        while self.earliest().is_some_and(|at| at <= now) {
            if let Some((_, key)) = self.by_time.pop_first() {
                self.due.remove(&key);
                keys.push(key);
            }
        }
        keys.sort();
        keys
    }

    /// Counts a failure, and returns the wait before the next attempt.
    fn failed(&mut self, key: &str) -> Duration {
        let failures = self.failures.entry(key.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        FIRST_RETRY.saturating_mul(2_u32.saturating_pow(*failures - 1)).min(LAST_RETRY)
    }
}

/// Runs a controller until it is cancelled.
pub(super) async fn drive<C: Controller>(mut controller: C, actor: Actor, pace: Pace, cancel: CancellationToken) {
    let random = Random::seeded(pace.seed);
    let mut watches = Watches::default();
    let mut queue = Queue::default();
    loop {
        for (resource, event) in watches.read(&mut controller, &actor) {
            let at = actor.clock().monotonic() + pace.draw(&random);
            for key in controller.affected(&actor, &resource, &event) {
                queue.add(key, at);
            }
        }
        for (number, key) in queue.take_due(actor.clock().monotonic()).into_iter().enumerate() {
            let outcome = controller.reconcile(&actor, &key);
            let now = actor.clock().monotonic();
            match outcome {
                Ok(next) => {
                    queue.failures.remove(&key);
                    if let Next::After(seconds) = next {
                        let seconds = u64::try_from(seconds).unwrap_or_default().max(1);
                        queue.add(key, now + Duration::from_secs(seconds));
                    }
                }
                Err(status) => {
                    let wait = queue.failed(&key);
                    let (name, error) = (controller.name(), &status.message);
                    tracing::debug!(controller = name, key, error, ?wait, "failed to reconcile; retrying");
                    queue.add(key, now + wait);
                }
            }
            if number % OBJECTS_PER_TURN == OBJECTS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            if cancel.is_cancelled() {
                return;
            }
        }
        let earliest = queue.earliest();
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = watches.ready() => {}
            () = until(earliest) => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The watches of a controller, by resource.
#[derive(Default)]
struct Watches {
    open: BTreeMap<Resource, Watch>,
}

type ResourceEvents = Vec<(Resource, Arc<Event>)>;

impl Watches {
    /// Returns all changes that have not been read yet, resource by resource.
    fn read(&mut self, controller: &mut impl Controller, actor: &Actor) -> ResourceEvents {
        let mut changes = ResourceEvents::new();
        let wanted = controller.watched(actor);
        self.open.retain(|resource, _| wanted.contains(resource));
        for resource in wanted {
            // One read returns a batch, which need not be all there is.
            loop {
                let Some(watch) = self.open.get_mut(&resource) else {
                    self.begin(actor, &resource, &mut changes);
                    continue;
                };
                match watch.read() {
                    Ok(events) if events.is_empty() => break,
                    Ok(events) => changes.extend(events.into_iter().map(|event| (resource.clone(), event))),
                    Err(Expired { .. }) => {
                        controller.reset(&resource);
                        changes.retain(|(other, _)| *other != resource);
                        self.open.remove(&resource);
                    }
                }
            }
        }
        changes
    }

    /// Begins to watch a resource. Its existing objects are added as new ones.
    fn begin(&mut self, actor: &Actor, resource: &Resource, changes: &mut ResourceEvents) {
        let Ok(page) = actor.store().list(resource, None, None, None) else { return };
        let Ok(watch) = actor.store().watch(resource, Some(page.revision)) else { return };
        for (key, object) in page.objects {
            changes.push((resource.clone(), Arc::new(Event { change: Change::Added, key, object, previous: None })));
        }
        self.open.insert(resource.clone(), watch);
    }

    /// Waits for a change of any resource.
    async fn ready(&mut self) {
        if self.open.is_empty() {
            std::future::pending::<()>().await;
        }
        let all = self.open.values_mut().map(|watch| Box::pin(watch.ready()));
        // The first watch that is ready wins, in the order of the resources.
        select_all(all).await;
    }
}
