//! Leader election with a Lease, after the rules of client-go's `leaderelection` package.
//!
//! Others' clocks are not trusted: a lease has expired when it was *seen* unchanged for its whole duration, on our own
//! monotonic clock. Our own claim ends at the renew deadline, counted from before the last successful renewal was sent,
//! and that is earlier than anyone else can take over.
//!
//! Architecture invariant: the write path asks [`Leadership::may_write`] before each write, and a write's timeout fits
//! between the renew deadline and the end of the lease, so that no write of ours can land under another leader.

use std::sync::Arc;
use std::sync::RwLock;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use sluice_base::clock::Clock;

/// How long a lease holds without being renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long after the last renewal this process still counts itself the leader.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two attempts.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Longest that a write may take: it must be over before the lease can expire.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this process may write. Cheap to clone; all clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Leadership(Arc<RwLock<Claim>>);

#[derive(Debug, Clone, Copy, Default)]
enum Claim {
    /// Somebody else's, or nobody's.
    #[default]
    None,
    /// Ours until then.
    Until(Instant),
    /// Ours for good: leader election is off.
    Always,
}

impl Leadership {
    /// A process that is alone, by the word of whoever started it.
    pub fn always() -> Self {
        Self(Arc::new(RwLock::new(Claim::Always)))
    }

    /// Whether a write may be begun now.
    pub fn may_write(&self, now: Instant) -> bool {
        match self.0.read().map_or(Claim::None, |claim| *claim) {
            Claim::None => false,
            Claim::Until(end) => now < end,
            Claim::Always => true,
        }
    }

    fn set(&self, claim: Claim) {
        if let Ok(mut current) = self.0.write() {
            *current = claim;
        }
    }
}

/// What was last seen of the lease, and when it was first seen so.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    duration: Duration,
    since: Instant,
}

impl Seen {
    /// Keeps `since` while the record has not changed.
    fn update(before: Option<&Self>, lease: &Lease, now: Instant) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let seen = Self {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed: spec.renew_time,
            duration: seconds.map_or(LEASE_DURATION, Duration::from_secs),
            since: now,
        };
        match before {
            Some(before) if before.holder == seen.holder && before.renewed == seen.renewed => {
                Self { since: before.since, ..seen }
            }
            _ => seen,
        }
    }

    /// Whether `me` may take or renew it now.
    fn is_free_for(&self, me: &str, now: Instant) -> bool {
        self.holder.is_empty() || self.holder == me || now >= self.since + self.duration
    }
}

/// Takes part in the election.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    leadership: Leadership,
    seen: Option<Seen>,
}

impl Elector {
    /// `identity` must differ between processes, also between two incarnations of one pod.
    pub fn new(api: Api<Lease>, name: &str, identity: &str, clock: Clock) -> Self {
        let leadership = Leadership::default();
        Self { api, name: name.to_owned(), identity: identity.to_owned(), clock, leadership, seen: None }
    }

    /// The claim that the write path asks.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Returns once this process leads, or `false` when it is told to stop first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            if self.attempt().await {
                tracing::info!(lease = %self.name, identity = %self.identity, "leading");
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
        }
    }

    /// Renews until told to stop (then the lease is handed back) or until the renew deadline passes without success.
    /// Returns whether it ended as told.
    pub async fn hold(&mut self, stop: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.release().await;
                    return true;
                }
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
            if !self.attempt().await && !self.leadership.may_write(self.clock.monotonic()) {
                self.leadership.set(Claim::None);
                tracing::error!(lease = %self.name, "the lease could not be renewed in time; no longer leading");
                return false;
            }
        }
    }

    /// One attempt to take or renew the lease.
    async fn attempt(&mut self) -> bool {
        let before = self.clock.monotonic();
        match timeout(WRITE_TIMEOUT, self.take_or_renew()).await {
            Ok(Ok(true)) => {
                self.leadership.set(Claim::Until(before + RENEW_DEADLINE));
                true
            }
            Ok(Ok(false)) => {
                // Somebody else holds it: whatever we thought, it is over.
                self.leadership.set(Claim::None);
                false
            }
            Ok(Err(error)) => {
                tracing::warn!(lease = %self.name, error = %error, "failed to take or renew the lease");
                false
            }
            Err(_) => {
                tracing::warn!(lease = %self.name, "failed to take or renew the lease: no answer in time");
                false
            }
        }
    }

    async fn take_or_renew(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.record(None, false)),
            };
            // A conflict means that another was faster; its lease is seen at the next attempt.
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(lease) => Ok(self.note(&lease)),
                Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_conflict() => Ok(false),
                Err(error) => Err(error),
            };
        };
        let now = self.clock.monotonic();
        let seen = Seen::update(self.seen.as_ref(), &lease, now);
        let free = seen.is_free_for(&self.identity, now);
        let renewing = seen.holder == self.identity;
        self.seen = Some(seen);
        if !free {
            return Ok(false);
        }
        // The resource version that was read goes along, so that of two who see it free only one gets it.
        lease.spec = Some(self.record(lease.spec.as_ref(), renewing));
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(lease) => Ok(self.note(&lease)),
            // Whether it was lost or only touched (a label), the next attempt tells; until then the claim runs on.
            Err(kube::Error::Api(status)) if status.is_conflict() && !renewing => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, lease: &Lease) -> bool {
        self.seen = Some(Seen::update(None, lease, self.clock.monotonic()));
        true
    }

    fn record(&self, before: Option<&LeaseSpec>, renewing: bool) -> LeaseSpec {
        let now = MicroTime(self.timestamp());
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: before
                .filter(|_| renewing)
                .and_then(|before| before.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if renewing || before.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }

    fn timestamp(&self) -> Timestamp {
        crate::timestamp(self.clock.now())
    }

    /// Hands the lease back, so that a successor need not wait. Best effort: it expires by itself.
    async fn release(&mut self) {
        // First of all, so that no write of ours can follow the release.
        self.leadership.set(Claim::None);
        let released = timeout(WRITE_TIMEOUT, async {
            let mut lease = self.api.get(&self.name).await?;
            let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
            else {
                return Ok(());
            };
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            self.api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
        });
        match released.await {
            Ok(Ok(())) => tracing::info!(lease = %self.name, "handed the lease back"),
            Ok(Err(error)) => tracing::warn!(lease = %self.name, error = %error, "failed to hand the lease back"),
            Err(_) => tracing::warn!(lease = %self.name, "failed to hand the lease back: no answer in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_by_our_own_clock_only() {
        let start = Clock::system().monotonic();
        // Its renew time lies years back, as it would if the holder's clock were wrong: that must not matter.
        let seen = Seen::update(None, &lease("other", 0), start);
        assert!(!seen.is_free_for("me", start + Duration::from_secs(14)));
        assert!(seen.is_free_for("me", start + Duration::from_secs(15)));
        // Seen unchanged: counts from when it was first seen so. Renewed: counts anew.
        let later = start + Duration::from_secs(10);
        assert_eq!(Seen::update(Some(&seen), &lease("other", 0), later).since, start);
        assert_eq!(Seen::update(Some(&seen), &lease("other", 1), later).since, later);
        assert!(Seen::update(None, &lease("me", 0), start).is_free_for("me", start));
        assert!(Seen::update(None, &lease("", 0), start).is_free_for("me", start));
    }

    #[tokio::test(start_paused = true)]
    async fn the_claim_ends_before_the_lease_can_be_taken() {
        let clock = Clock::system();
        let leadership = Leadership::default();
        assert!(!leadership.may_write(clock.monotonic()));
        let renewed = clock.monotonic();
        leadership.set(Claim::Until(renewed + RENEW_DEADLINE));
        assert!(leadership.may_write(renewed + RENEW_DEADLINE - Duration::from_millis(1)));
        assert!(!leadership.may_write(renewed + RENEW_DEADLINE));
        assert!(RENEW_DEADLINE + WRITE_TIMEOUT <= LEASE_DURATION);
    }
}
