//! `sluice local` as a process: the tests kill it, search the system's list of processes for its children, and connect
//! over TLS with the kubeconfig that it writes.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy allows them in tests, but not in what tests of a whole file share"
)]

mod token;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use sluice_testkit::processes::{Folder, PATIENCE, processes, until_none};

fn sluice(arguments: &[&str]) -> Command {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("local").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A running cluster.
struct Cluster {
    child: Child,
    client: Client,
    kubeconfig: PathBuf,
}

impl Cluster {
    async fn start(folder: &Folder, more: &[&str]) -> Self {
        let data = folder.0.join("data");
        let mut command = sluice(&["--data-dir", data.to_str().unwrap()]);
        let mut child = command.args(more).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = Vec::new();
        while printed.len() < 3 {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
            printed.push(line.unwrap_or_else(|| panic!("sluice local ended; it printed {printed:?}")));
        }
        let kubeconfig = PathBuf::from(printed[1].trim().strip_prefix("export KUBECONFIG=").expect("a line to copy"));
        let client = client(&kubeconfig).await;
        Self { child, client, kubeconfig }
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    async fn run(&self, name: &str, spec: Value) {
        let mut pod = json!({"metadata": {"name": name}, "spec": spec});
        pod["spec"]["nodeName"] = "local".into();
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }

    /// Waits until the pod satisfies a condition.
    async fn until(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let last = std::sync::Mutex::new(Value::Null);
        let check = |pod: Option<&Pod>| {
            let pod = serde_json::to_value(pod).unwrap();
            let satisfied = condition(&pod);
            *last.lock().unwrap() = pod;
            satisfied
        };
        let waited = tokio::time::timeout(PATIENCE, await_condition(self.pods(), name, check)).await;
        let last = last.into_inner().unwrap();
        let Ok(outcome) = waited else { panic!("{name} did not satisfy the condition: {last:#}") };
        outcome.unwrap();
        last
    }

    async fn log(&self, name: &str, params: LogParams) -> String {
        self.pods().logs(name, &params).await.unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(i32::try_from(self.child.id().unwrap()).unwrap(), signal);
    }

    async fn end(mut self) -> i32 {
        self.signal(Signal::TERM);
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        status.code().unwrap()
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn shell(script: &str) -> Value {
    json!({"name": "c", "image": "none", "command": ["sh", "-c", script]})
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[tokio::test]
async fn a_killed_cluster_leaves_no_process() {
    let folder = Folder::new("kill");
    let cluster = Cluster::start(&folder, &[]).await;
    // One child in the process group, one that left it and whose parent has ended, and one that ignores SIGTERM.
    let mark = folder.mark();
    let script = format!(
        "trap '' TERM; sleep 1000000 {mark} 2>/dev/null & exec 3>&-; (setsid sh -c 'while :; do sleep 1; done # {mark}' &) ; \
         while :; do sleep 1; done # {mark}"
    );
    cluster.run("stubborn", json!({"containers": [shell(&script)]})).await;
    cluster.until("stubborn", is_ready).await;
    let has_own_session = || processes(&mark).iter().any(|(_, line)| line.starts_with("sh -c while"));
    while !has_own_session() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.signal(Signal::KILL);
    until_none(&mark).await;
}

#[tokio::test]
async fn a_killed_supervisor_ends_its_container_which_is_restarted() {
    let folder = Folder::new("supervisor");
    let cluster = Cluster::start(&folder, &[]).await;
    let mark = folder.mark();
    cluster.run("p", json!({"containers": [shell(&format!("while :; do sleep 1; done # {mark} own"))]})).await;
    cluster.until("p", is_ready).await;
    let all = processes(&mark);
    let (supervisor, _) = all.iter().find(|(_, line)| line.contains("__supervise run")).unwrap();
    let (own, _) = all.iter().find(|(_, line)| line.starts_with("sh ")).unwrap();
    kill(*supervisor, Signal::KILL);
    let pod = cluster.until("p", |pod| container(pod)["restartCount"] == 1 && is_ready(pod)).await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 137);
    assert!(!processes(&mark).iter().any(|(pid, _)| pid == own));
    // The system ends the container, not the node, which is stopped now.
    cluster.signal(Signal::STOP);
    let all = processes(&mark);
    let (supervisor, _) = all.iter().find(|(_, line)| line.contains("__supervise run")).unwrap();
    kill(*supervisor, Signal::KILL);
    let own = async {
        while processes(&mark).iter().any(|(_, line)| line.starts_with("sh ")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, own).await.unwrap();
    cluster.signal(Signal::CONT);
    assert_eq!(cluster.end().await, 0);
    until_none(&mark).await;
}

#[tokio::test]
async fn stored_objects_survive_a_kill_and_pods_are_restarted() {
    let folder = Folder::new("data");
    let cluster = Cluster::start(&folder, &[]).await;
    assert_eq!(std::fs::metadata(&cluster.kubeconfig).unwrap().permissions().mode() & 0o777, 0o600);
    cluster.run("p", json!({"containers": [shell("while :; do sleep 1; done")]})).await;
    cluster.until("p", is_ready).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "1"}});
    let map = maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    // The cluster is killed during writes. Every acknowledged write must be there afterwards.
    let (sender, mut answered) = tokio::sync::mpsc::unbounded_channel();
    let writing = tokio::spawn(async move {
        for number in 0.. {
            let map = json!({"metadata": {"name": format!("m{number}")}});
            let written = maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await;
            if written.is_err() || sender.send(number).is_err() {
                return;
            }
        }
    });
    while answered.recv().await != Some(50) {}
    cluster.signal(Signal::KILL);
    drop(cluster);
    let mut last = 50;
    while let Some(number) = answered.recv().await {
        last = number;
    }
    writing.await.unwrap();

    let cluster = Cluster::start(&folder, &[]).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let kept = maps.get("m").await.unwrap();
    assert_eq!(kept, map);
    for number in 0..=last {
        assert!(maps.get_opt(&format!("m{number}")).await.unwrap().is_some(), "m{number} of {last}");
    }
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    let changed = maps.patch("m", &PatchParams::default(), &patch).await.unwrap();
    let version = |map: &ConfigMap| map.metadata.resource_version.as_ref().unwrap().parse::<u64>().unwrap();
    assert!(version(&changed) > version(&map));
    let pod = cluster.until("p", |pod| container(pod)["restartCount"] == 1 && is_ready(pod)).await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
    let kubeconfig = cluster.kubeconfig.clone();
    assert_eq!(cluster.end().await, 0);
    assert!(!kubeconfig.exists(), "the kubeconfig is removed when the server ends");
}

#[tokio::test]
async fn a_client_without_the_token_is_rejected() {
    let folder = Folder::new("token");
    let cluster = Cluster::start(&folder, &[]).await;
    let mut kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    // A client that connects and sends nothing does not block others.
    let url = kubeconfig.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
    let _silent = tokio::net::TcpStream::connect(url.strip_prefix("https://").unwrap()).await.unwrap();
    kubeconfig.auth_infos[0].auth_info.as_mut().unwrap().token = Some("0".repeat(64).into());
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let nodes: Api<Node> = Api::all(Client::try_from(config).unwrap());
    let Err(kube::Error::Api(status)) = nodes.get("local").await else { panic!("it was allowed") };
    assert_eq!(status.code, 401);
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    assert!(nodes.get("local").await.is_ok());
}

#[tokio::test]
async fn a_pod_gets_its_environment_and_files_follow_the_config_map() {
    let folder = Folder::new("pod");
    let cluster = Cluster::start(&folder, &["--image", "echo=echo $(WORD)"]).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let map = json!({"metadata": {"name": "m"}, "data": {"word": "one"}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let variables = json!([
        {"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "word"}}},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "FILE", "value": "/etc/m/word"},
    ]);
    let mut follows =
        shell("echo $WORD $ME; until [ $(cat $FILE) = two ]; do sleep 0.05; done; cat /etc/m/word; exit 3");
    follows["env"] = variables.clone();
    follows["volumeMounts"] = json!([{"name": "m", "mountPath": "/etc/m"}]);
    let volumes = json!([{"name": "m", "configMap": {"name": "m"}}]);
    cluster.run("follows", json!({"restartPolicy": "Never", "containers": [follows], "volumes": volumes})).await;
    let pod = cluster.until("follows", |pod| container(pod)["state"]["running"].is_object()).await;
    let address = pod["status"]["podIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("127."), "{address}");
    let patch = Patch::Merge(json!({"data": {"word": "two"}}));
    maps.patch("m", &PatchParams::default(), &patch).await.unwrap();
    let pod = cluster.until("follows", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(container(&pod)["state"]["terminated"]["exitCode"], 3);
    assert_eq!(cluster.log("follows", LogParams::default()).await, format!("one {address}\ntwo"));

    // An image's command runs once the ConfigMap that it needs exists.
    let echo = json!({"name": "c", "image": "registry/echo:1", "args": ["$(WORD)"],
        "env": [{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "word"}}}]});
    cluster.run("echo", json!({"restartPolicy": "Never", "containers": [echo]})).await;
    let waiting = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    let pod = cluster.until("echo", waiting).await;
    assert_eq!(container(&pod)["state"]["waiting"]["message"], "configmap \"late\" not found");
    let late = json!({"metadata": {"name": "late"}, "data": {"word": "now"}});
    maps.create(&PostParams::default(), &serde_json::from_value(late).unwrap()).await.unwrap();
    cluster.until("echo", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(cluster.log("echo", LogParams::default()).await.trim(), "now now");
}

#[tokio::test]
async fn a_failed_container_is_restarted_with_separate_logs() {
    let folder = Folder::new("crash");
    let cluster = Cluster::start(&folder, &[]).await;
    cluster.run("crash", json!({"containers": [shell("echo one; echo two; echo three >&2; exit 4")]})).await;
    let crashing = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let pod = cluster.until("crash", crashing).await;
    // The first restart is immediate, the second one is delayed.
    assert_eq!(container(&pod)["restartCount"], 1);
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 4);
    let message = container(&pod)["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=crash_default("), "{message}");
    let last = LogParams { tail_lines: Some(1), previous: true, ..LogParams::default() };
    let log = cluster.log("crash", last).await;
    assert!(["one", "two", "three"].contains(&log.trim()), "{log}");
    cluster.pods().delete("crash", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(cluster.pods(), "crash", is_deleted(pod["metadata"]["uid"].as_str().unwrap()));
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_deleted_pod_may_finish_within_its_grace_period() {
    let folder = Folder::new("grace");
    let cluster = Cluster::start(&folder, &[]).await;
    let mark = folder.mark();
    let polite = shell(&format!(
        "trap 'echo bye > {}/bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        folder.0.display()
    ));
    cluster.run("polite", json!({"containers": [polite]})).await;
    let stubborn = shell(&format!("trap '' TERM; echo up; while :; do sleep 0.05; done # {mark} stubborn"));
    cluster.run("stubborn", json!({"terminationGracePeriodSeconds": 1, "containers": [stubborn]})).await;
    for name in ["polite", "stubborn"] {
        let pod = cluster.until(name, is_ready).await;
        // Before it prints a line, the container has not installed its signal handler.
        while cluster.log(name, LogParams::default()).await.is_empty() {}
        cluster.pods().delete(name, &DeleteParams::default()).await.unwrap();
        let gone = await_condition(cluster.pods(), name, is_deleted(pod["metadata"]["uid"].as_str().unwrap()));
        tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
    }
    assert_eq!(std::fs::read_to_string(folder.0.join("bye")).unwrap(), "bye\n");
    assert_eq!(processes(&format!("{mark} stubborn")), []);
}

#[tokio::test]
async fn probes_reach_pods_with_one_port_and_restart_a_dead_one() {
    let folder = Folder::new("probes");
    let cluster = Cluster::start(&folder, &[]).await;
    // This program is the listener on the pod's own address; no other one is installed on every computer that builds
    // Rust.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let worker = json!({
        "name": "c", "image": "sluice",
        "args": ["worker", "--bootstrap-servers=127.0.0.1:1", "--topic=t", "--group=g", format!("--listen=$(POD_IP):{port}")],
        "ports": [{"name": "metrics", "containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/livez", "port": "metrics"}, "periodSeconds": 1},
    });
    cluster.run("one", json!({"containers": [worker]})).await;
    cluster.run("two", json!({"containers": [worker]})).await;
    let one = cluster.until("one", is_ready).await;
    let two = cluster.until("two", is_ready).await;
    assert_ne!(one["status"]["podIP"], two["status"]["podIP"]);
    // The second pod answered its own probe: it is still ready without the first pod.
    cluster.pods().delete("one", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(cluster.pods(), "one", is_deleted(one["metadata"]["uid"].as_str().unwrap()));
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
    let two = cluster.until("two", is_ready).await;
    assert_eq!(container(&two)["restartCount"], 0);
    tokio::net::TcpStream::connect((two["status"]["podIP"].as_str().unwrap(), port)).await.unwrap();
    let mut dies = shell("while :; do sleep 1; done");
    dies["livenessProbe"] = json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1});
    cluster.run("dies", json!({"containers": [dies]})).await;
    let pod = cluster.until("dies", |pod| container(pod)["restartCount"] == 1).await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 143);
}

/// Runs `sluice local`, which must fail; returns the exit code and stderr.
async fn refused(arguments: &[&str]) -> (i32, String) {
    let output: Output = sluice(arguments).output().await.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn wrong_arguments_and_files_are_reported_exactly() {
    let folder = Folder::new("refusals");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (code, stderr) = refused(&["--port", &port.to_string()]).await;
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(
        stderr.contains(&format!("127.0.0.1:{port}")) && stderr.contains("choose another port with --port"),
        "{stderr}"
    );

    let file = folder.0.join("file");
    std::fs::write(&file, "").unwrap();
    let (code, stderr) = refused(&["--data-dir", file.join("x").to_str().unwrap()]).await;
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(
        stderr.contains("file/x: Not a directory") && stderr.contains("choose another with --data-dir"),
        "{stderr}"
    );

    let bad = folder.0.join("bad.yaml");
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {nme: y}\n---\napiVersion: sluice.dev/v1alpha1\nkind: StreamJob\n\
        metadata: {name: x}\nspec:\n  sorces: []\n  maxReplicas: many\n  objective: {latency: 10s}\n";
    std::fs::write(&bad, text).unwrap();
    let (code, stderr) = refused(&["-f", bad.to_str().unwrap()]).await;
    assert_eq!(code, 1);
    for (line, what) in [(3, "metadata.name"), (9, "did you mean `sources`?"), (10, "spec.maxReplicas")] {
        let found = stderr.lines().any(|found| found.contains(&format!("bad.yaml:{line}:")) && found.contains(what));
        assert!(found, "line {line}, {what}: {stderr}");
    }
    std::fs::write(&bad, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {nodeNme: local, containers: []}\n")
        .unwrap();
    let (code, stderr) = refused(&["-f", bad.to_str().unwrap()]).await;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("bad.yaml:1: failed to apply Pod a")
            && stderr.contains(".spec.nodeNme: field not declared in schema"),
        "{stderr}"
    );

    std::fs::write(
        &bad,
        "apiVersion: v1\nkind: Pood\nmetadata: {name: a}\n---\napiVersion: a.b/v1\nkind: C\nmetadata: {name: d}\n",
    )
    .unwrap();
    let (_, stderr) = refused(&["-f", bad.to_str().unwrap()]).await;
    for object in ["bad.yaml:1: failed to apply Pood a", "bad.yaml:5: failed to apply C d"] {
        assert!(
            stderr.contains(&format!("{object}: the server does not know this kind; also pass its Custom")),
            "{stderr}"
        );
    }
    let (_, stderr) = refused(&["-f", folder.0.join("none").to_str().unwrap()]).await;
    assert!(stderr.starts_with("sluice: failed to read ") && stderr.lines().count() == 1, "{stderr}");

    let cluster = Cluster::start(&folder, &[]).await;
    let (code, stderr) = refused(&["--data-dir", folder.0.join("data").to_str().unwrap()]).await;
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(stderr.contains("another process uses it; stop that process, or choose another folder"), "{stderr}");
    assert_eq!(cluster.end().await, 0);

    assert_eq!(refused(&["--port", "nine"]).await.0, 2);
    assert_eq!(refused(&["--image", "web"]).await.0, 2);
}
