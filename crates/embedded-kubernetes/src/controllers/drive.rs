//! How a controller runs: it is told of changes, says which objects they concern, and is given these one at a time.

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

/// The first wait after a failure, doubled with each further one, as in a real cluster.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// The longest wait after failures.
const LAST_RETRY: Duration = Duration::from_secs(1000);

/// After how many objects others get their turn. Each turn may have them look at all their objects anew, so that one
/// after every object would take quadratic time: 47 s for 1,000 pods in a debug build.
const TURN: usize = 50;

/// When an object has to be looked at again although nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Never.
    Change,
    /// In so many seconds.
    After(i64),
}

impl Next {
    /// The sooner of the two.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
            (after @ Self::After(_), Self::Change) | (Self::Change, after) => after,
        }
    }
}

/// A controller.
pub(crate) trait Controller: Send + 'static {
    /// Its name, for logs.
    fn name(&self) -> &'static str;
    /// What it wants to be told of. Asked again whenever a kind comes or goes.
    fn watched(&self, actor: &Actor) -> Vec<Resource>;
    /// The keys of what has to be looked at after a change. Objects that were there before the controller was are told
    /// of as new ones.
    fn touched(&mut self, actor: &Actor, resource: &Resource, event: &Event) -> Vec<String>;
    /// Changes have been missed: all that is there will be told of anew.
    fn lost_track(&mut self, _: &Resource) {}
    /// Looks at the object and does one thing after the other to it until it is as it should be, or something must be
    /// waited for. After an error it is tried again.
    fn reconcile(&mut self, actor: &Actor, key: &str) -> Result<Next, Status>;
}

/// How long controllers take to notice a change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// The longest time. Zero: at once.
    pub longest: Duration,
    /// What the times are drawn from.
    pub seed: u64,
}

impl Pace {
    pub(super) fn of(self, number: u64) -> Self {
        Self { seed: Random::seeded(self.seed ^ number).next(), ..self }
    }

    fn draw(&self, random: &Random) -> Duration {
        let longest = u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(random.next().checked_rem(longest).unwrap_or_default())
    }
}

/// What has to be looked at, and when.
#[derive(Debug, Default)]
struct Queue {
    due: BTreeMap<String, Instant>,
    by_time: BTreeSet<(Instant, String)>,
    failures: BTreeMap<String, u32>,
}

impl Queue {
    /// Notes that an object has to be looked at no later than that.
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

    /// Takes out what is due, in the order of keys.
    fn take(&mut self, now: Instant) -> Vec<String> {
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

    /// How long to wait after one more failure.
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
            for key in controller.touched(&actor, &resource, &event) {
                queue.add(key, at);
            }
        }
        for (number, key) in queue.take(actor.clock().monotonic()).into_iter().enumerate() {
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
                    tracing::debug!(controller = name, key, error, ?wait, "failed to reconcile: will be tried again");
                    queue.add(key, now + wait);
                }
            }
            if number % TURN == TURN - 1 {
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

/// The changes of several resources.
#[derive(Default)]
struct Watches {
    open: BTreeMap<Resource, Watch>,
}

type Told = Vec<(Resource, Arc<Event>)>;

impl Watches {
    /// All changes that have not been read yet, resource by resource.
    fn read(&mut self, controller: &mut impl Controller, actor: &Actor) -> Told {
        let mut told = Told::new();
        let wanted = controller.watched(actor);
        self.open.retain(|resource, _| wanted.contains(resource));
        for resource in wanted {
            // A batch is not all there is.
            loop {
                let Some(watch) = self.open.get_mut(&resource) else {
                    self.begin(actor, &resource, &mut told);
                    continue;
                };
                match watch.read() {
                    Ok(events) if events.is_empty() => break,
                    Ok(events) => told.extend(events.into_iter().map(|event| (resource.clone(), event))),
                    Err(Expired { .. }) => {
                        controller.lost_track(&resource);
                        told.retain(|(other, _)| *other != resource);
                        self.open.remove(&resource);
                    }
                }
            }
        }
        told
    }

    /// Begins to watch a resource; what is there is told of as new.
    fn begin(&mut self, actor: &Actor, resource: &Resource, told: &mut Told) {
        let Ok(page) = actor.store().list(resource, None, None, None) else { return };
        let Ok(watch) = actor.store().watch(resource, Some(page.revision)) else { return };
        for (key, object) in page.objects {
            told.push((resource.clone(), Arc::new(Event { change: Change::Added, key, object, previous: None })));
        }
        self.open.insert(resource.clone(), watch);
    }

    /// Waits for a change.
    async fn ready(&mut self) {
        if self.open.is_empty() {
            std::future::pending::<()>().await;
        }
        let all = self.open.values_mut().map(|watch| Box::pin(watch.ready()));
        // It takes the first that is ready, in the order of resources.
        select_all(all).await;
    }
}
