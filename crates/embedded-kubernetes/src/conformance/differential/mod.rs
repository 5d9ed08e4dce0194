//! Sends random sequences of requests to this server and to a real one, and compares the answers.
//!
//! The real server is the one that `CONFORMANCE_KUBECONFIG` names. Without it, two embedded servers are compared,
//! which only shows that no sequence crashes the server and that answers are repeatable. Each sequence has its own
//! namespace and ends at its first difference, because later differences may follow from it. Other sequences continue,
//! so that one run shows each kind of difference once, with its shortest sequence. `PROPTEST_CASES` sets the number of
//! sequences, and `PROPTEST_RNG_SEED` the seed.

mod answers;
mod kinds;
mod requests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use self::answers::comparable;
use self::kinds::TestKind;
use self::requests::Request;
use super::{Bed, ours, real};

/// The number of sequences against a real server, unless `PROPTEST_CASES` sets it.
const SEQUENCES: u32 = 200;
/// The number of sequences without a real server, where there is little to find.
const SEQUENCES_ALONE: u32 = 10;

/// One of the two servers, and what it last returned for each object.
struct Side {
    bed: Bed,
    known: BTreeMap<(TestKind, String), KnownObject>,
}

#[derive(Default, Clone)]
struct KnownObject {
    uid: String,
    version: String,
    /// The version before the current one.
    stale: String,
}

impl Side {
    fn new(bed: Bed) -> Self {
        Self { bed, known: BTreeMap::new() }
    }

    /// Sends a request, and returns the comparable part of the answer.
    async fn send(&mut self, request: &Request) -> Value {
        let key = (request.kind, request.name.clone());
        let known = self.known.get(&key).cloned().unwrap_or_default();
        let mut body = request.body.clone();
        substitute(&mut body, &known);
        let path = self.path(request);
        let (code, answer) = self.bed.call_as(request.method, &path, request.content_type, &body).await;
        let changed = self.remember(&key, &known, code, &answer);
        let mut result = json!({"code": code, "answer": comparable(request.kind, &answer)});
        // On a real cluster controllers write to a Deployment, so its version says nothing about the request.
        if request.kind != TestKind::Deployment && request.method != "GET" {
            result["changed"] = changed.into();
        }
        if request.needs_garbage_collector() && code < 300 {
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

    fn collection(&self, kind: TestKind) -> String {
        match kind {
            TestKind::ConfigMap => self.bed.core("configmaps"),
            TestKind::Pod => self.bed.core("pods"),
            TestKind::Deployment => self.bed.apps("deployments"),
            TestKind::Widget => self.bed.widgets(),
        }
    }

    /// Remembers the uid and version in an answer. Returns whether the object has changed.
    fn remember(&mut self, key: &(TestKind, String), known: &KnownObject, code: u16, answer: &Value) -> bool {
        let metadata = &answer["metadata"];
        let (Some(uid), Some(version)) = (metadata["uid"].as_str(), metadata["resourceVersion"].as_str()) else {
            return false;
        };
        if code >= 300 || metadata["name"].as_str() != Some(&key.1) || known.version == version {
            return false;
        }
        let now = KnownObject { uid: uid.to_owned(), version: version.to_owned(), stale: known.version.clone() };
        self.known.insert(key.clone(), now);
        true
    }

    /// Completes a foreground or orphan deletion. One of the servers has no garbage collector, so the test does it on
    /// both.
    async fn finish(&self, request: &Request) {
        let path = format!("{}/{}", self.collection(request.kind), request.name);
        for _ in 0..200 {
            let (code, _) = self.bed.merge(&path, json!({"metadata": {"finalizers": null}})).await;
            if code == 404 {
                return;
            }
            if request.kind == TestKind::Pod {
                self.bed.call("DELETE", &path, json!({"gracePeriodSeconds": 0})).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{path} is not removed");
    }

    /// Removes all finalizers and deletes all objects, so that the namespace can be removed. A real cluster would
    /// otherwise retry for ever.
    async fn clear(&self) {
        for kind in TestKind::ALL {
            let collection = self.collection(kind);
            let list = self.bed.get(&collection).await;
            for object in list["items"].as_array().into_iter().flatten() {
                let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
                if object["metadata"]["finalizers"].is_array() {
                    self.bed.merge(&path, json!({"metadata": {"finalizers": null}})).await;
                }
                if kind == TestKind::Pod {
                    self.bed.call("DELETE", &path, json!({"gracePeriodSeconds": 0})).await;
                }
            }
        }
        self.bed.call("DELETE", &format!("/api/v1/namespaces/{}", self.bed.namespace), Value::Null).await;
    }
}

/// Replaces the placeholders `$uid`, `$version` and `$stale` by the values of one server.
fn substitute(value: &mut Value, known: &KnownObject) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| substitute(value, known)),
        Value::Array(items) => items.iter_mut().for_each(|value| substitute(value, known)),
        Value::String(text) => match text.as_str() {
            "$uid" => text.clone_from(&known.uid),
            "$version" => text.clone_from(&known.version),
            "$stale" => text.clone_from(&known.stale),
            _ => {}
        },
        _ => {}
    }
}

/// The two servers to compare.
struct ServerPair {
    clients: [(kube::Client, Option<crate::api::Server>); 2],
}

/// A difference between two answers.
struct Difference {
    /// The kind of request, and where the answers differ. Another sequence with the same key shows nothing new.
    key: String,
    /// The request and both answers.
    description: String,
}

impl ServerPair {
    /// Sends a sequence to both servers. Returns the number of requests that were answered alike, or the first
    /// difference.
    async fn run(&self, sequence: &[Request]) -> Result<usize, Difference> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("differential-{}-{number}", std::process::id());
        let mut sides = Vec::new();
        for (client, server) in &self.clients {
            let bed = Bed::with_client(client.clone(), server.clone(), namespace.clone()).await;
            if bed.server.is_none() {
                // A real server refuses pods without a service account.
                bed.until(&bed.core("serviceaccounts"), "default", |account| !account.is_null()).await;
            }
            sides.push(Side::new(bed));
        }
        let [one, other] = sides.as_mut_slice() else { unreachable!() };
        let last = TestKind::ALL.map(Request::list);
        let mut outcome = Ok(0);
        for (index, request) in sequence.iter().chain(&last).enumerate() {
            let (ours, theirs) = tokio::join!(one.send(request), other.send(request));
            if let Some(position) = answers::first_difference(&ours, &theirs) {
                let description = format!("request {index}, {request:?}:\nours   {ours}\ntheirs {theirs}");
                outcome = Err(Difference { key: format!("{}: {position}", request.brief()), description });
                break;
            }
            outcome = Ok(index + 1);
        }
        for side in &sides {
            side.clear().await;
        }
        outcome
    }

    /// Shortens a sequence as far as it still shows the same difference, and describes it with both answers.
    async fn shortest(&self, mut sequence: Vec<Request>, found: Difference) -> String {
        let mut description = found.description;
        let mut size = sequence.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < sequence.len() {
                let mut fewer = sequence.clone();
                fewer.drain(at..sequence.len().min(at + size));
                match self.run(&fewer).await {
                    Err(same) if same.key == found.key => (sequence, description) = (fewer, same.description),
                    _ => at += size,
                }
            }
            if size <= 1 {
                break;
            }
            size = size.div_ceil(2);
        }
        let before: Vec<String> = sequence.iter().map(|request| format!("  {request:?}\n")).collect();
        format!("{}\n{}{description}\n", found.key, before.concat())
    }
}

#[test]
fn random_requests_are_answered_alike() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let theirs = runtime.block_on(real());
    let cases = if theirs.is_some() { SEQUENCES } else { SEQUENCES_ALONE };
    let both = ServerPair { clients: [ours(), theirs.map_or_else(ours, |client| (client, None))] };
    runtime.block_on(async {
        for (client, server) in &both.clients {
            let bed =
                Bed { client: client.clone(), namespace: "default".to_owned(), server: server.clone(), ends: None };
            bed.prepare().await;
        }
    });
    let config = Config::default();
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |_| config.cases);
    let mut runner = TestRunner::new(config);
    let (mut asked, mut differences) = (0, BTreeMap::new());
    for _ in 0..cases {
        let sequence = requests::sequences().new_tree(&mut runner).unwrap().current();
        match runtime.block_on(both.run(&sequence)) {
            Ok(count) => asked += count,
            Err(new) if !differences.contains_key(&new.key) => {
                let key = new.key.clone();
                differences.insert(key, runtime.block_on(both.shortest(sequence, new)));
            }
            Err(_) => {}
        }
    }
    eprintln!("{asked} requests of {cases} sequences were answered alike");
    let found: Vec<String> = differences.into_values().collect();
    assert!(found.is_empty(), "{} kinds of difference:\n{}", found.len(), found.join("\n"));
}
