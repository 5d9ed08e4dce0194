//! Random sequences of requests go to this server and to a real one, and the answers must agree.
//!
//! The real server is the one that `CONFORMANCE_KUBECONFIG` names; without it two servers of ours are compared, which
//! shows no more than that no sequence ends a server, and that the answers are repeatable. Each sequence has
//! a namespace of its own. `PROPTEST_CASES` and `PROPTEST_RNG_SEED` say how many sequences, and which.

mod answers;
mod requests;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use self::answers::comparable;
use self::requests::{Kind, Request};
use super::{Bed, ours, real};

/// Sequences, unless `PROPTEST_CASES` says otherwise.
const SEQUENCES: u32 = 200;
/// Without a real server there is little to find.
const SEQUENCES_ALONE: u32 = 10;

/// One of the two servers, and what it has said last of each object.
struct Side {
    bed: Bed,
    known: std::collections::BTreeMap<(Kind, String), Known>,
}

#[derive(Default, Clone)]
struct Known {
    uid: String,
    version: String,
    /// The version before.
    stale: String,
}

impl Side {
    fn new(bed: Bed) -> Self {
        Self { bed, known: std::collections::BTreeMap::new() }
    }

    /// Sends a request, and gives what of the answer can be compared.
    async fn send(&mut self, request: &Request) -> Value {
        let key = (request.kind, request.name.clone());
        let known = self.known.get(&key).cloned().unwrap_or_default();
        let mut body = request.body.clone();
        fill_in(&mut body, &known);
        let path = self.path(request);
        let (code, answer) = self.bed.call_as(request.method, &path, request.content_type, &body).await;
        let changed = self.learn(&key, &known, code, &answer);
        let mut result = json!({"code": code, "answer": comparable(request.kind, &answer)});
        // Others write to a Deployment on a real cluster: which version it has is not ours to say.
        if request.kind != Kind::Deployment && request.method != "GET" {
            result["changed"] = changed.into();
        }
        if request.hands_over() && code < 300 {
            self.finish(request).await;
        }
        result
    }

    fn path(&self, request: &Request) -> String {
        let collection = self.collection(request.kind);
        if request.name.is_empty() {
            format!("{collection}{}", request.rest)
        } else {
            format!("{collection}/{}{}", request.name, request.rest)
        }
    }

    fn collection(&self, kind: Kind) -> String {
        match kind {
            Kind::ConfigMap => self.bed.core("configmaps"),
            Kind::Pod => self.bed.core("pods"),
            Kind::Deployment => self.bed.apps("deployments"),
            Kind::Widget => self.bed.widgets(),
        }
    }

    /// Keeps what an answer tells of an object. Says whether the object has changed.
    fn learn(&mut self, key: &(Kind, String), known: &Known, code: u16, answer: &Value) -> bool {
        let metadata = &answer["metadata"];
        let (Some(uid), Some(version)) = (metadata["uid"].as_str(), metadata["resourceVersion"].as_str()) else {
            return false;
        };
        if code >= 300 || metadata["name"].as_str() != Some(&key.1) || known.version == version {
            return false;
        }
        let now = Known { uid: uid.to_owned(), version: version.to_owned(), stale: known.version.clone() };
        self.known.insert(key.clone(), now);
        true
    }

    /// What becomes of an object that is to go last, or without its dependents, is the garbage collector's. One of the
    /// servers has none: both are helped to the end.
    async fn finish(&self, request: &Request) {
        let path = format!("{}/{}", self.collection(request.kind), request.name);
        for _ in 0..200 {
            let (code, _) = self.bed.merge(&path, json!({"metadata": {"finalizers": null}})).await;
            if code == 404 {
                return;
            }
            if request.kind == Kind::Pod {
                self.bed.call("DELETE", &path, json!({"gracePeriodSeconds": 0})).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{path} does not go");
    }
}

/// Puts in what one server alone knows: `$uid`, `$version` and `$stale`.
fn fill_in(value: &mut Value, known: &Known) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| fill_in(value, known)),
        Value::Array(items) => items.iter_mut().for_each(|value| fill_in(value, known)),
        Value::String(text) => match text.as_str() {
            "$uid" => text.clone_from(&known.uid),
            "$version" => text.clone_from(&known.version),
            "$stale" => text.clone_from(&known.stale),
            _ => {}
        },
        _ => {}
    }
}

async fn same_on_both(
    servers: &[(kube::Client, Option<crate::embedded::api::Server>); 2],
    sequence: &[Request],
) -> Result<usize, TestCaseError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let namespace = format!("differential-{}-{number}", std::process::id());
    let mut sides = Vec::new();
    for (client, server) in servers {
        let bed = Bed::of(client.clone(), server.clone(), namespace.clone()).await;
        if bed.server.is_none() {
            // Without it a real server takes no pods.
            bed.until(&bed.core("serviceaccounts"), "default", |account| !account.is_null()).await;
        }
        sides.push(Side::new(bed));
    }
    let [one, other] = sides.as_mut_slice() else { unreachable!() };
    let last = Kind::ALL.map(Request::list);
    let mut outcome = Ok(0);
    for (index, request) in sequence.iter().chain(&last).enumerate() {
        let (ours, theirs) = tokio::join!(one.send(request), other.send(request));
        if ours != theirs {
            let message = format!("request {index}, {request:?}:\nours   {ours}\ntheirs {theirs}");
            outcome = Err(TestCaseError::fail(message));
            break;
        }
        outcome = Ok(index + 1);
    }
    for side in &sides {
        side.bed.call("DELETE", &format!("/api/v1/namespaces/{namespace}"), Value::Null).await;
    }
    outcome
}

#[test]
fn random_requests_are_answered_alike() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let theirs = runtime.block_on(real());
    let cases = if theirs.is_some() { SEQUENCES } else { SEQUENCES_ALONE };
    let servers = [ours(), theirs.map_or_else(ours, |client| (client, None))];
    runtime.block_on(async {
        for (client, server) in &servers {
            let bed =
                Bed { client: client.clone(), namespace: "default".to_owned(), server: server.clone(), ends: None };
            bed.define_widgets().await;
        }
    });
    let defaults = Config::default();
    let config = Config {
        cases: std::env::var("PROPTEST_CASES").map_or(cases, |_| defaults.cases),
        failure_persistence: None,
        max_shrink_iters: 500,
        ..defaults
    };
    let asked = AtomicUsize::new(0);
    let outcome = TestRunner::new(config).run(&requests::sequences(), |sequence| {
        let count = runtime.block_on(same_on_both(&servers, &sequence))?;
        asked.fetch_add(count, Ordering::Relaxed);
        Ok(())
    });
    eprintln!("{} requests were answered alike", asked.load(Ordering::Relaxed));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
