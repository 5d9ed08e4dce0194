//! Random sequences of requests go to this server and to a real one, and the answers must agree.
//!
//! The real server is the one that `CONFORMANCE_KUBECONFIG` names; without it two servers of ours are compared, which
//! shows no more than that no sequence ends a server, and that the answers are repeatable. Each sequence has
//! a namespace of its own, and ends at its first difference, for what follows may follow from it. The others go on: one run
//! shows each way to differ once, by the shortest sequence. `PROPTEST_CASES` and `PROPTEST_RNG_SEED` say how many
//! sequences, and which.

mod answers;
mod kinds;
mod requests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use self::answers::comparable;
use self::kinds::Kind;
use self::requests::Request;
use super::{Bed, ours, real};

/// Sequences, unless `PROPTEST_CASES` says otherwise.
const SEQUENCES: u32 = 200;
/// Without a real server there is little to find.
const SEQUENCES_ALONE: u32 = 10;

/// One of the two servers, and what it has said last of each object.
struct Side {
    bed: Bed,
    known: BTreeMap<(Kind, String), Known>,
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
        Self { bed, known: BTreeMap::new() }
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

    /// Lets go of whatever there is, or the namespaces would not go either: a real cluster tries again and again.
    async fn clear(&self) {
        for kind in Kind::ALL {
            let collection = self.collection(kind);
            let list = self.bed.get(&collection).await;
            for object in list["items"].as_array().into_iter().flatten() {
                let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
                if object["metadata"]["finalizers"].is_array() {
                    self.bed.merge(&path, json!({"metadata": {"finalizers": null}})).await;
                }
                if kind == Kind::Pod {
                    self.bed.call("DELETE", &path, json!({"gracePeriodSeconds": 0})).await;
                }
            }
        }
        self.bed.call("DELETE", &format!("/api/v1/namespaces/{}", self.bed.namespace), Value::Null).await;
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

/// The two servers.
struct Both {
    clients: [(kube::Client, Option<crate::api::Server>); 2],
}

/// Two answers that are not the same.
struct Difference {
    /// What kind of request, and where in the answer. A sequence that differs likewise shows nothing new.
    key: String,
    /// The request and both answers.
    words: String,
}

impl Both {
    /// How many requests both have answered alike, or how they differ.
    async fn ask(&self, sequence: &[Request]) -> Result<usize, Difference> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("differential-{}-{number}", std::process::id());
        let mut sides = Vec::new();
        for (client, server) in &self.clients {
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
            if let Some(place) = answers::first_difference(&ours, &theirs) {
                let words = format!("request {index}, {request:?}:\nours   {ours}\ntheirs {theirs}");
                outcome = Err(Difference { key: format!("{}: {place}", request.brief()), words });
                break;
            }
            outcome = Ok(index + 1);
        }
        for side in &sides {
            side.clear().await;
        }
        outcome
    }

    /// The shortest part of a sequence that still shows a difference, as both answer it.
    async fn shortest(&self, mut sequence: Vec<Request>, found: Difference) -> String {
        let mut words = found.words;
        let mut size = sequence.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < sequence.len() {
                let mut fewer = sequence.clone();
                fewer.drain(at..sequence.len().min(at + size));
                match self.ask(&fewer).await {
                    Err(same) if same.key == found.key => (sequence, words) = (fewer, same.words),
                    _ => at += size,
                }
            }
            if size <= 1 {
                break;
            }
            size = size.div_ceil(2);
        }
        let before: Vec<String> = sequence.iter().map(|request| format!("  {request:?}\n")).collect();
        format!("{}\n{}{words}\n", found.key, before.concat())
    }
}

#[test]
fn random_requests_are_answered_alike() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let theirs = runtime.block_on(real());
    let cases = if theirs.is_some() { SEQUENCES } else { SEQUENCES_ALONE };
    let both = Both { clients: [ours(), theirs.map_or_else(ours, |client| (client, None))] };
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
        match runtime.block_on(both.ask(&sequence)) {
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
    assert!(found.is_empty(), "{} ways to differ:\n{}", found.len(), found.join("\n"));
}
