//! Kinds that a `targetRef` may name: how the API server calls them, by its own word. A guess at a plural is right for the kinds
//! of Kubernetes, and not for every kind that somebody defines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};

use sluice_api::conditions::reasons;
use sluice_base::units::Seconds;

use crate::error::{Error, Refused};
use crate::observe::live;
use crate::status::signals::Verdict;

/// What the API server has said of a kind holds for so long.
const HOLDS: Seconds = Seconds(600.0);

/// What is known of kinds other than Deployments, `StatefulSets` and `ReplicaSets`. Cheap to clone; all clones know the same. There are as many as the cluster has:
/// what is not found is not kept.
#[derive(Clone, Default)]
pub(crate) struct Kinds(Arc<Mutex<HashMap<GroupVersionKind, Known>>>);

struct Known {
    resource: ApiResource,
    at: Seconds,
}

impl Kinds {
    /// The kind as the API server calls it, asked for if it is not known; refused if there is none that can be scaled.
    pub(crate) async fn ask(&self, client: &Client, guess: &ApiResource, now: Seconds) -> Result<ApiResource, Refused> {
        // Anything else, such as "DEPLOYMENT", is not what the API server calls it.
        let is_built_in = matches!(guess.kind.as_str(), "Deployment" | "StatefulSet" | "ReplicaSet");
        if guess.api_version == "apps/v1" && is_built_in {
            return Ok(guess.clone());
        }
        let gvk = GroupVersionKind::gvk(&guess.group, &guess.version, &guess.kind);
        if let Some(known) = self.lock().get(&gvk).filter(|known| now - known.at < HOLDS) {
            return Ok(known.resource.clone());
        }
        let found = live::read("look up the kind of the target", discovery::pinned_kind(client, &gvk)).await;
        let (resource, capabilities) = match found {
            Ok(found) => found,
            Err(error) if is_unknown_kind(&error) => return Err(missing(&gvk, "the API server knows no such kind")),
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

    /// The kind as it was last heard of, or as it was guessed.
    pub(crate) fn known(&self, guess: &ApiResource) -> ApiResource {
        let gvk = GroupVersionKind::gvk(&guess.group, &guess.version, &guess.kind);
        self.lock().get(&gvk).map_or_else(|| guess.clone(), |known| known.resource.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<GroupVersionKind, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The group and version are not served, or have no such kind.
fn is_unknown_kind(error: &Error) -> bool {
    let Error::Api { source, .. } = error else { return false };
    // A group that is not served is answered with a 404 that is no Status.
    error.code() == Some(404) || matches!(source, kube::Error::Discovery(_))
}

fn missing(gvk: &GroupVersionKind, why: &str) -> Refused {
    let message = format!(
        "kind {} in {} cannot be scaled: {why}; correct spec.targetRef, or install the CRD of the kind",
        gvk.kind,
        gvk.api_version()
    );
    Refused::Trouble(Verdict { reason: reasons::TARGET_NOT_FOUND, message })
}
