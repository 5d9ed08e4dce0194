//! Who may read /metrics: whom the API server knows by a bearer token (`TokenReview`) and lets get the path
//! (`SubjectAccessReview` of a `nonResourceURL`), as with the metrics of Kubernetes' own parts.
//!
//! An answer holds for half a minute, so that a scraper costs two requests in that time; by two keyed hashes of the token,
//! which itself is not kept.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use sluice_base::clock::Clock;

const PATH: &str = "/metrics";

/// An answer holds for so long, a withdrawn right as well.
const HOLDS: Duration = Duration::from_secs(30);

/// For an answer of the API server.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many answers are kept: there are a few scrapers, and whoever tries tokens is to fill nothing.
const MOST_KEPT: usize = 128;

/// So many callers are asked about at a time. Whoever tries tokens does not make the API server busy.
const MOST_ASKED: usize = 4;

/// Longest token that is passed on, in bytes.
const LONGEST_TOKEN: usize = 16 << 10;

/// Why a caller is turned away: the status, and words for it.
pub type Refusal = (StatusCode, String);

/// Asks the API server about callers. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    client: Client,
    clock: Clock,
    keys: [RandomState; 2],
    kept: Mutex<HashMap<[u64; 2], (Instant, Verdict)>>,
    asking: Semaphore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Unknown,
    Forbidden,
}

impl Access {
    /// By the API server of this client.
    pub fn new(client: Client, clock: Clock) -> Self {
        let keys = [RandomState::new(), RandomState::new()];
        Self(Arc::new(Inner { client, clock, keys, kept: Mutex::default(), asking: Semaphore::new(MOST_ASKED) }))
    }

    /// Whether who sends these headers may read the metrics.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        let token = token.filter(|token| !token.is_empty() && token.len() <= LONGEST_TOKEN);
        let token = token.ok_or_else(|| (StatusCode::UNAUTHORIZED, "a bearer token is needed".to_owned()))?;
        match self.verdict(token).await? {
            Verdict::Allowed => Ok(()),
            Verdict::Unknown => Err((StatusCode::UNAUTHORIZED, "the cluster does not know the token".to_owned())),
            Verdict::Forbidden => {
                Err((StatusCode::FORBIDDEN, format!("a right is needed: get on the nonResourceURL {PATH}")))
            }
        }
    }

    async fn verdict(&self, token: &str) -> Result<Verdict, Refusal> {
        let inner = &self.0;
        let key = inner.keys.each_ref().map(|key| key.hash_one(token));
        let now = inner.clock.monotonic();
        let known = inner.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((_, verdict)) = known.filter(|(until, _)| now < *until) {
            return Ok(verdict);
        }
        let busy = |_| unavailable("too many callers are being asked about");
        let _place = inner.asking.try_acquire().map_err(busy)?;
        let late = |_| Err(unavailable("the API server did not answer in time"));
        let verdict = timeout(PATIENCE, self.ask(token)).await.unwrap_or_else(late)?;
        let mut kept = inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, (until, _)| now < *until);
        }
        if kept.len() < MOST_KEPT {
            kept.insert(key, (now + HOLDS, verdict));
        }
        Ok(verdict)
    }

    async fn ask(&self, token: &str) -> Result<Verdict, Refusal> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let reviewed = self.create(TokenReview { spec, ..TokenReview::default() }).await?;
        let status = reviewed.status.unwrap_or_default();
        // A user without a name would be asked about as nobody: that is no answer.
        let user = status.user.filter(|user| user.username.as_ref().is_some_and(|name| !name.is_empty()));
        let Some(user) = user.filter(|_| status.authenticated == Some(true)) else { return Ok(Verdict::Unknown) };
        let UserInfo { username, groups, uid, extra } = user;
        let attributes = NonResourceAttributes { path: Some(PATH.to_owned()), verb: Some("get".to_owned()) };
        let spec = SubjectAccessReviewSpec {
            user: username,
            groups,
            uid,
            extra,
            non_resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let reviewed = self.create(SubjectAccessReview { spec, ..SubjectAccessReview::default() }).await?;
        let allowed = reviewed.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        Ok(if allowed { Verdict::Allowed } else { Verdict::Forbidden })
    }

    async fn create<K>(&self, review: K) -> Result<K, Refusal>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.0.client.clone());
        api.create(&PostParams::default(), &review).await.map_err(|error| {
            let words: String = error.to_string().chars().take(200).collect();
            unavailable(&format!("failed to ask the API server for a {}: {words}", K::kind(&())))
        })
    }
}

fn unavailable(why: &str) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
}

#[cfg(test)]
mod tests;
