//! Benchmark of the embedded control plane against its goals: ready in 300 ms, 5,000 writes/s with 200 watchers on one
//! core without a lost event, 10,000 pods in 300 MiB, `kubectl get stj` in 50 ms.
//!
//! Each number is from a single run, so criterion is not used. The server itself is measured in memory, in one thread
//! that it shares with its clients; the rest is measured with the real program. HTTP is not measured, because most of
//! its cost would be the client's.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)] // a command; a failure ends it

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use embedded_kubernetes::api::{Options, Server};
use embedded_kubernetes::service::InMemory;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams, WatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use sluice_base::clock::Clock;

const WATCHERS: usize = 200;
const WRITES: u32 = 10_000;
/// Each watcher watches one of these namespaces, as an operator for one team does.
const NAMESPACES: u32 = 20;
const PODS: usize = 10_000;
const TRIES: u32 = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        pods().await; // first, because the process keeps memory that it once used
        writes(0).await;
        writes(WATCHERS).await;
    });
    measure_program();
}

fn server() -> Client {
    let options = Options::new(embedded_kubernetes::clock::Clock::new(Clock::system()));
    Client::new(InMemory::new(Server::new(options)), "default")
}

fn resident_mib(pid: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Measures the memory of many pods of a typical size.
async fn pods() {
    let client = server();
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let before = resident_mib("self");
    for number in 0..PODS {
        let pod = json!({
            "metadata": {"name": format!("worker-{number}"), "labels": {"app": "worker", "pod-template-hash": "6c5b8d7f9"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "worker-6c5b8d7f9",
                    "uid": "6e1b6c1e-0000-4000-8000-000000000000", "controller": true, "blockOwnerDeletion": true}]},
            "spec": {"containers": [{"name": "c", "image": "worker:1", "args": ["--topic", "orders", "--group", "workers"],
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"name": "metrics", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}}}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    println!("{PODS} pods: {:.0} MiB; without pods {before:.0} MiB", resident_mib("self"));
}

/// Measures the rate of writes, and waits until every watcher has received all of its events.
async fn writes(watchers: usize) {
    let client = server();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for number in 0..NAMESPACES {
        let namespace = serde_json::from_value(json!({"metadata": {"name": format!("n{number}")}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let map = serde_json::from_value(json!({"metadata": {"name": "m"}})).unwrap();
        maps(&client, number).create(&PostParams::default(), &map).await.unwrap();
    }
    let seen = std::sync::Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for number in (0..NAMESPACES).cycle().take(watchers) {
        let api = maps(&client, number);
        let from = api.get("m").await.unwrap().resource_version().unwrap();
        let events = api.watch(&WatchParams::default(), &from).await.unwrap();
        let seen = std::sync::Arc::clone(&seen);
        let count = usize::try_from(WRITES / NAMESPACES).unwrap();
        tasks.push(tokio::spawn(async move {
            let events = events.boxed().take(count);
            let last = events
                .try_fold(0, |last, event| async move {
                    let kube::api::WatchEvent::Modified(map) = event else { return Ok(last) };
                    Ok(map.resource_version().unwrap().parse::<u64>().unwrap().max(last + 1))
                })
                .await;
            seen.fetch_add(u64::from(last.is_ok()), Ordering::Relaxed);
        }));
    }
    let clock = Clock::system();
    let begun = clock.now().0;
    for number in 0..WRITES {
        let change = Patch::Merge(json!({"data": {"n": number.to_string()}}));
        maps(&client, number % NAMESPACES).patch("m", &PatchParams::default(), &change).await.unwrap();
    }
    let written = clock.now().0 - begun;
    for task in tasks {
        tokio::time::timeout(Duration::from_mins(1), task).await.unwrap().unwrap();
    }
    let all = clock.now().0 - begun;
    let rate = |seconds: f64| f64::from(WRITES) / seconds;
    println!(
        "{watchers} watchers: {:.0} writes/s, {:.0}/s until the last event was received; {} watchers received all of their events",
        rate(written),
        rate(all),
        seen.load(Ordering::Relaxed)
    );
}

fn maps(client: &Client, number: u32) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), &format!("n{number}"))
}

/// Measures the start of `sluice local` until it is ready, and a request of kubectl.
fn measure_program() {
    let clock = Clock::system();
    let mut starts = Vec::new();
    for number in 0..TRIES {
        let folder = std::env::temp_dir().join(format!("sluice-bench-{}-{number}", std::process::id()));
        let begun = clock.now().0;
        let (mut child, kubeconfig) = local(&folder);
        starts.push((clock.now().0 - begun) * 1e3);
        if number + 1 == TRIES {
            kubectl(&kubeconfig, &folder, &clock);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
    println!("sluice local is ready after {} ms", millis(&starts));
}

fn local(folder: &std::path::Path) -> (Child, PathBuf) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["local", "--data-dir"]).arg(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // All lines are read, because the program ends when its stdout is closed.
    let printed: Vec<String> = lines.take(3).collect();
    let kubeconfig = printed.iter().find_map(|line| line.trim().strip_prefix("export KUBECONFIG=")).unwrap();
    (child, PathBuf::from(kubeconfig))
}

fn kubectl(kubeconfig: &std::path::Path, home: &std::path::Path, clock: &Clock) {
    let mut times = Vec::new();
    for _ in 0..=TRIES {
        let begun = clock.now().0;
        let mut command = Command::new("kubectl");
        command.args(["get", "stj"]).env("HOME", home).env("KUBECONFIG", kubeconfig);
        if !command.output().is_ok_and(|output| output.status.success()) {
            println!("kubectl get stj: not measured; kubectl is not on the PATH");
            return;
        }
        times.push((clock.now().0 - begun) * 1e3);
    }
    // The first request also fetches the list of resources.
    println!("kubectl get stj: {} ms, the first time {:.0} ms", millis(&times[1..]), times[0]);
}

fn millis(times: &[f64]) -> String {
    let texts: Vec<String> = times.iter().map(|time| format!("{time:.0}")).collect();
    texts.join(", ")
}
