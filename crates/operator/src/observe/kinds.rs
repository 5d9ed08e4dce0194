//! Resolves the kinds that a `targetRef` may name, by asking the API server. A guessed plural is right for the built-in
//! kinds, but not for every custom kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;

use crate::cause::ConditionCause;
use crate::error::{Blocked, Error};
use crate::observe::live;

/// Time for which the API server's answer about a kind is cached.
const CACHED_FOR: Seconds = Seconds(600.0);

/// A cache of kinds other than Deployments, `StatefulSets` and `ReplicaSets`. Cheap to clone; all clones share the
/// cache. It is bounded by the number of kinds in the cluster: kinds that do not exist are not cached.
#[derive(Clone, Default)]
pub(crate) struct Kinds(Arc<Mutex<HashMap<GroupVersionKind, Known>>>);

struct Known {
    resource: ApiResource,
    at: Seconds,
}

impl Kinds {
    /// Returns the kind with the plural that the API server uses. Fails if the kind does not exist or cannot be scaled.
    pub(crate) async fn resolve(
        &self,
        client: &Client,
        guess: &ApiResource,
        now: Seconds,
    ) -> Result<ApiResource, Blocked> {
        // Any other spelling, such as "DEPLOYMENT", is a different kind for the API server.
        let is_built_in = matches!(guess.kind.as_str(), "Deployment" | "StatefulSet" | "ReplicaSet");
        if guess.api_version == "apps/v1" && is_built_in {
            return Ok(guess.clone());
        }
        let gvk = GroupVersionKind::gvk(&guess.group, &guess.version, &guess.kind);
        if let Some(known) = self.lock().get(&gvk).filter(|known| now - known.at < CACHED_FOR) {
            return Ok(known.resource.clone());
        }
        let found = live::read("look up the kind of the target", discovery::pinned_kind(client, &gvk)).await;
        let (resource, capabilities) = match found {
            Ok(found) => found,
            Err(error) if is_unknown_kind(&error) => return Err(missing(&gvk, "the kind does not exist")),
            Err(error) => return Err(error.into()),
        };
        if capabilities.scope == Scope::Cluster {
            return Err(missing(&gvk, "it is cluster-scoped"));
        }
        if !capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale") {
            return Err(missing(&gvk, "it has no scale subresource"));
        }
        self.lock().insert(gvk, Known { resource: resource.clone(), at: now });
        Ok(resource)
    }

    /// Returns the kind from the cache, or the guess.
    pub(crate) fn resolve_cached(&self, guess: &ApiResource) -> ApiResource {
        let gvk = GroupVersionKind::gvk(&guess.group, &guess.version, &guess.kind);
        self.lock().get(&gvk).map_or_else(|| guess.clone(), |known| known.resource.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<GroupVersionKind, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether the group and version are not served, or do not contain the kind.
fn is_unknown_kind(error: &Error) -> bool {
    let Error::Api { source, .. } = error else { return false };
    // For a group that is not served, the API server answers with a 404 whose body is not a Status.
    error.code() == Some(404) || matches!(source, kube::Error::Discovery(_))
}

fn missing(gvk: &GroupVersionKind, why: &str) -> Blocked {
    let message = format!(
        "kind {} in {} cannot be scaled: {why}: correct spec.targetRef, or install the CRD of the kind",
        gvk.kind,
        gvk.api_version()
    );
    Blocked::Cause(ConditionCause { reason: reasons::TARGET_NOT_FOUND, message })
}
