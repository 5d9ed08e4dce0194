//! Leader election with a Lease, after the rules of client-go's `leaderelection` package.
//!
//! The clocks of other processes are not trusted: a lease has expired when it was *observed* unchanged for its whole
//! duration, on the monotonic clock of this process. The claim of this process ends at the renew deadline, counted from
//! before the last successful renewal was sent, and therefore before another process can take over.
//!
//! Architecture invariant: the write path checks [`Leadership::may_write`] before each write, and a write's timeout
//! fits between the renew deadline and the end of the lease, so that no write of this process takes effect under
//! another leader.

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

/// Time after which a lease that is not renewed expires.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// Time after its last renewal for which this process considers itself the leader.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two attempts to take or renew the lease.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Timeout of a write, which must have ended before the lease can expire.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this process may write. Cheap to clone; all clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Leadership(Arc<RwLock<Claim>>);

#[derive(Debug, Clone, Copy, Default)]
enum Claim {
    /// This process does not hold the lease.
    #[default]
    None,
    /// This process holds the lease until this time.
    Until(Instant),
    /// Leader election is off, so this process may always write.
    Always,
}

impl Leadership {
    /// Returns the leadership of a process that runs without leader election.
    pub fn always() -> Self {
        Self(Arc::new(RwLock::new(Claim::Always)))
    }

    /// Returns whether a write may begin now.
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

/// The lease as it was last observed, and the time since which it has not changed.
#[derive(Debug, Clone, PartialEq)]
struct ObservedRecord {
    holder: String,
    renewed: Option<MicroTime>,
    duration: Duration,
    since: Instant,
}

impl ObservedRecord {
    /// Takes in a newly read lease. `since` stays while the record does not change.
    fn update(before: Option<&Self>, lease: &Lease, now: Instant) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let observed = Self {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed: spec.renew_time,
            duration: seconds.map_or(LEASE_DURATION, Duration::from_secs),
            since: now,
        };
        match before {
            Some(before) if before.holder == observed.holder && before.renewed == observed.renewed => {
                Self { since: before.since, ..observed }
            }
            _ => observed,
        }
    }

    /// Returns whether `me` may take or renew the lease now.
    fn is_free_for(&self, me: &str, now: Instant) -> bool {
        self.holder.is_empty() || self.holder == me || now >= self.since + self.duration
    }
}

/// A candidate of the leader election.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    leadership: Leadership,
    observed: Option<ObservedRecord>,
}

impl Elector {
    /// Returns a candidate. `identity` must differ between processes, also between two runs of one pod.
    pub fn new(api: Api<Lease>, name: &str, identity: &str, clock: Clock) -> Self {
        let leadership = Leadership::default();
        Self { api, name: name.to_owned(), identity: identity.to_owned(), clock, leadership, observed: None }
    }

    /// Returns the leadership that the write path checks.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until this process leads. Returns false if `stop` is cancelled first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            if self.attempt().await {
                tracing::info!(lease = %self.name, identity = %self.identity, "acquired the lease; leading");
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
        }
    }

    /// Renews the lease until `stop` is cancelled, and releases it then. Returns false if the renew deadline passes
    /// without a successful renewal.
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
                tracing::error!(lease = %self.name, "lease not renewed in time; no longer leading");
                return false;
            }
        }
    }

    /// Attempts once to take or renew the lease.
    async fn attempt(&mut self) -> bool {
        let before = self.clock.monotonic();
        match timeout(WRITE_TIMEOUT, self.take_or_renew()).await {
            Ok(Ok(true)) => {
                self.leadership.set(Claim::Until(before + RENEW_DEADLINE));
                true
            }
            Ok(Ok(false)) => {
                // Another process holds the lease, so the claim of this process ends at once.
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
                spec: Some(self.next_spec(None, false)),
            };
            // A conflict means that another process was faster. Its lease is observed at the next attempt.
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(lease) => Ok(self.record_acquired(&lease)),
                Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_conflict() => Ok(false),
                Err(error) => Err(error),
            };
        };
        let now = self.clock.monotonic();
        let observed = ObservedRecord::update(self.observed.as_ref(), &lease, now);
        let free = observed.is_free_for(&self.identity, now);
        let renewing = observed.holder == self.identity;
        self.observed = Some(observed);
        if !free {
            return Ok(false);
        }
        // The request contains the resource version that was read, so that only one of two candidates gets a free
        // lease.
        lease.spec = Some(self.next_spec(lease.spec.as_ref(), renewing));
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(lease) => Ok(self.record_acquired(&lease)),
            // The next attempt shows whether the lease was lost or only modified (a label); until then the claim
            // continues.
            Err(kube::Error::Api(status)) if status.is_conflict() && !renewing => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Records the lease that this process has just written, and returns true.
    fn record_acquired(&mut self, lease: &Lease) -> bool {
        self.observed = Some(ObservedRecord::update(None, lease, self.clock.monotonic()));
        true
    }

    /// Returns the spec with which this process takes or renews the lease.
    fn next_spec(&self, before: Option<&LeaseSpec>, renewing: bool) -> LeaseSpec {
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

    /// Releases the lease, so that a successor need not wait. A failure is harmless: the lease expires.
    async fn release(&mut self) {
        // End the claim first, so that no write of this process follows the release.
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
            Ok(Ok(())) => tracing::info!(lease = %self.name, "released the lease"),
            Ok(Err(error)) => tracing::warn!(lease = %self.name, error = %error, "failed to release the lease"),
            Err(_) => tracing::warn!(lease = %self.name, "failed to release the lease: no answer in time"),
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
    async fn lease_expires_by_the_observer_s_clock_only() {
        let start = Clock::system().monotonic();
        // Its renew time is decades ago, as if the holder's clock were wrong. That must not matter.
        let observed = ObservedRecord::update(None, &lease("other", 0), start);
        assert!(!observed.is_free_for("me", start + Duration::from_secs(14)));
        assert!(observed.is_free_for("me", start + Duration::from_secs(15)));
        // An unchanged lease keeps the time of its first observation. A renewed lease starts again.
        let later = start + Duration::from_secs(10);
        assert_eq!(ObservedRecord::update(Some(&observed), &lease("other", 0), later).since, start);
        assert_eq!(ObservedRecord::update(Some(&observed), &lease("other", 1), later).since, later);
        assert!(ObservedRecord::update(None, &lease("me", 0), start).is_free_for("me", start));
        assert!(ObservedRecord::update(None, &lease("", 0), start).is_free_for("me", start));
    }

    #[tokio::test(start_paused = true)]
    async fn claim_ends_before_the_lease_can_be_taken() {
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
