//! Authorization of /metrics: the API server must authenticate the client's bearer token (`TokenReview`) and allow it
//! to get the path (`SubjectAccessReview` of a `nonResourceURL`), as for the metrics of Kubernetes' own components.
//!
//! A decision is cached for 30 s, so that a scraper costs two requests in that time. The key of the cache is two keyed
//! hashes of the token; the token itself is not stored.

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

/// Time for which a decision is cached. A revoked right remains effective for at most this long.
const CACHED_FOR: Duration = Duration::from_secs(30);

/// Timeout of the requests to the API server.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of cached decisions. There are few scrapers, and a client that tries tokens must not fill the memory.
const MAX_CACHED: usize = 128;

/// Maximum number of concurrent reviews, so that a client that tries tokens does not load the API server.
const MAX_REVIEWS: usize = 4;

/// Maximum length of a token, bytes.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// An error answer: HTTP status and message.
pub type Refusal = (StatusCode, String);

/// Authorizes clients with the API server. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    client: Client,
    clock: Clock,
    keys: [RandomState; 2],
    cached: Mutex<HashMap<[u64; 2], (Instant, AccessDecision)>>,
    reviews: Semaphore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccessDecision {
    Allowed,
    /// The API server does not know the token.
    Unauthenticated,
    /// The user may not get the path.
    Forbidden,
}

impl Access {
    /// Returns an authorizer that uses the API server of this client.
    pub fn new(client: Client, clock: Clock) -> Self {
        let keys = [RandomState::new(), RandomState::new()];
        Self(Arc::new(Inner { client, clock, keys, cached: Mutex::default(), reviews: Semaphore::new(MAX_REVIEWS) }))
    }

    /// Checks that a client with these request headers may read the metrics.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        let token = token.filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
        let token = token.ok_or_else(|| (StatusCode::UNAUTHORIZED, "missing bearer token".to_owned()))?;
        match self.decision(token).await? {
            AccessDecision::Allowed => Ok(()),
            AccessDecision::Unauthenticated => {
                Err((StatusCode::UNAUTHORIZED, "the API server does not know the token".to_owned()))
            }
            AccessDecision::Forbidden => {
                Err((StatusCode::FORBIDDEN, format!("missing permission: get on the nonResourceURL {PATH}")))
            }
        }
    }

    async fn decision(&self, token: &str) -> Result<AccessDecision, Refusal> {
        let inner = &self.0;
        let key = inner.keys.each_ref().map(|key| key.hash_one(token));
        let now = inner.clock.monotonic();
        let known = inner.cached.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((_, decision)) = known.filter(|(until, _)| now < *until) {
            return Ok(decision);
        }
        let busy = |_| unavailable("too many concurrent authorization requests");
        let _permit = inner.reviews.try_acquire().map_err(busy)?;
        let late = |_| Err(unavailable("the API server did not answer in time"));
        let decision = timeout(REVIEW_TIMEOUT, self.review(token)).await.unwrap_or_else(late)?;
        let mut cached = inner.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= MAX_CACHED {
            cached.retain(|_, (until, _)| now < *until);
        }
        if cached.len() < MAX_CACHED {
            cached.insert(key, (now + CACHED_FOR, decision));
        }
        Ok(decision)
    }

    async fn review(&self, token: &str) -> Result<AccessDecision, Refusal> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let reviewed = self.create(TokenReview { spec, ..TokenReview::default() }).await?;
        let status = reviewed.status.unwrap_or_default();
        // A review for a user without a name would be one for an anonymous user, so the token counts as unknown.
        let user = status.user.filter(|user| user.username.as_ref().is_some_and(|name| !name.is_empty()));
        let Some(user) = user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(AccessDecision::Unauthenticated);
        };
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
        Ok(if allowed { AccessDecision::Allowed } else { AccessDecision::Forbidden })
    }

    async fn create<K>(&self, review: K) -> Result<K, Refusal>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.0.client.clone());
        api.create(&PostParams::default(), &review).await.map_err(|error| {
            let detail: String = error.to_string().chars().take(200).collect();
            unavailable(&format!("failed to create a {}: {detail}", K::kind(&())))
        })
    }
}

fn unavailable(why: &str) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
}

#[cfg(test)]
mod tests;
