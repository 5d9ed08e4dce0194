//! Compares what kubectl prints for this server with its controllers and for a real cluster, command by command. The
//! test is skipped without `CONFORMANCE_KUBECONFIG`.
//!
//! Pods are assigned to a node without a kubelet; on both sides the test acts as the kubelet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use regex::Regex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Bed, ours, real};
use crate::controllers::{Controllers, Pace};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeName: nowhere
      automountServiceAccountToken: false
      containers:
      - name: c
        image: web:1
        ports: [{name: http, containerPort: 80}]
        env: [{name: A, value: "1"}]
        resources: {requests: {cpu: 100m}, limits: {memory: 64Mi}}
        readinessProbe: {httpGet: {port: http}}
"#;

/// Returns the commands and their inputs.
fn commands() -> Vec<(Vec<&'static str>, &'static str)> {
    const STATUS: [&str; 4] = ["rollout", "status", "deployment/web", "--timeout=30s"];
    let command = |line: &'static str| (line.split(' ').collect::<Vec<_>>(), "");
    vec![
        (vec!["apply", "-f", "-"], WEB),
        (vec!["apply", "-f", "-"], WEB),
        (STATUS.to_vec(), ""),
        (vec!["apply", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: v}\n"),
        command("get deployment web -o wide"),
        command("get replicasets -o wide"),
        command("get pods -o wide"),
        command("describe deployment web"),
        command("edit deployment web"),
        (STATUS.to_vec(), ""),
        command("rollout history deployment/web"),
        command("rollout undo deployment/web"),
        (STATUS.to_vec(), ""),
        command("scale deployment web --replicas=3"),
        command("scale deployment web --replicas=4 --current-replicas=2"),
        command("wait --for=jsonpath={.status.readyReplicas}=3 deployment/web --timeout=30s"),
        command("wait --for=condition=available deployment/web --timeout=30s"),
        command("wait --for=condition=none deployment/web --timeout=1s"),
        command("get deployment web -o json"),
        command("get replicasets -l app=web --sort-by=.spec.replicas -o json"),
        command("get pods -l app=web -o jsonpath={.items[0]}"),
        command("describe pods -l app=web"),
        // Enumerations are not explained: the schemas here do not list their values.
        command("explain deployment.spec.strategy.rollingUpdate"),
        command("explain widget.spec"),
        command("explain widget.spec.none"),
        command("api-resources --api-group=example.test"),
        command("delete deployment web --cascade=orphan"),
        command("get replicasets -o name"),
        command("delete replicasets -l app=web --cascade=background"),
        command("wait --for=delete pods -l app=web --timeout=30s"),
        (vec!["apply", "--server-side", "-f", "-"], WEB),
        (STATUS.to_vec(), ""),
        command("delete deployment web --cascade=foreground --timeout=30s"),
        command("get deployments,replicasets,pods"),
        command("get configmap m -o yaml"),
        command("describe configmap m"),
        command("label configmap m a=b"),
        command("label configmap m a=c"),
        command("annotate configmap m a=b --overwrite"),
        command("patch configmap m --type=json -p [{\"op\":\"remove\",\"path\":\"/data/none\"}]"),
        command("delete configmap m"),
        command("delete configmap m"),
        command("get deployment none"),
        command("get nothings"),
        (vec!["create", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}\n"),
        (vec!["create", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatum: {}\n"),
        (
            vec!["apply", "-f", "-"],
            "apiVersion: example.test/v1\nkind: Widget\nmetadata: {name: w}\nspec: {color: red}\n",
        ),
        command("get widgets"),
        command("get widgets -o wide"),
        command("scale widget w --replicas=2"),
        command("describe widget w"),
        command("delete widget w"),
    ]
}

fn run(kubeconfig: &Path, home: &Path, namespace: &str) -> Vec<String> {
    let mut outputs = Vec::new();
    for (arguments, input) in commands() {
        let mut command = Command::new("kubectl");
        command.args(&arguments).args(["--namespace", namespace]);
        command.env("HOME", home).env("KUBECONFIG", kubeconfig).env("KUBE_EDITOR", "sed -i s/web:1/web:2/");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        outputs.push(format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)));
    }
    outputs
}

/// Returns the part of a command's output that can be compared. How many steps of a rollout are printed depends on how
/// fast pods start, so only the last line and the exit code are compared.
fn comparable_output(arguments: &[&str], output: &str) -> BTreeSet<String> {
    if !arguments.starts_with(&["rollout", "status"]) {
        return normalized_lines(output);
    }
    let (code, steps) = output.split_once('\n').unwrap_or_default();
    normalized_lines(&format!("{code}\n{}", steps.lines().last().unwrap_or_default()))
}

/// Returns the lines of an output, without values that differ between clusters. The order is not compared, because
/// that of pods and events is random.
fn normalized_lines(output: &str) -> BTreeSet<String> {
    let letter = "[bcdfghjklmnpqrstvwxz2456789]";
    let rules = [
        (format!(r"web-{letter}{{6,10}}-{letter}{{5}}"), "web-HASH-POD"),
        (format!(r"web-{letter}{{6,10}}"), "web-HASH"),
        (format!(r#"(pod-template-hash"?[:=] ?"?){letter}{{6,10}}"#), "${1}HASH"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z".to_owned(), "TIME"),
        (r"\w{3}, \d\d \w{3} \d{4} [0-9:]{8} [+-]\d{4}".to_owned(), "TIME"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}".to_owned(), "UID"),
        (r#"(?i)(resource ?version"?: *"?)\d+"#.to_owned(), "${1}VERSION"),
        (r"\b\d+(\.\d+)?m?s\b".to_owned(), "AGE"),
        (r"\s+".to_owned(), " "),
    ];
    let mut lines = BTreeSet::new();
    // A line of JSON is split into one line for each field.
    let parsed: Option<Value> = output.split_once('\n').and_then(|(_, rest)| serde_json::from_str(rest).ok());
    let spread = parsed.map(|value| serde_json::to_string_pretty(&value).unwrap());
    for line in spread.as_deref().unwrap_or(output).lines() {
        let replaced = rules.iter().fold(line.to_owned(), |text, (pattern, by)| {
            Regex::new(pattern).unwrap().replace_all(&text, *by).into_owned()
        });
        lines.insert(replaced.trim().trim_end_matches(',').to_owned());
    }
    lines
}

/// Acts as a kubelet for any API server: starts pods that are bound to a node, and removes deleted ones.
async fn act_as_kubelet(pods: Api<Pod>) {
    let mut changes =
        std::pin::pin!(watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects());
    while let Some(change) = changes.next().await {
        let Ok(pod) = change else { continue };
        let name = pod.metadata.name.unwrap_or_default();
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        // A write may fail on a conflict; the other writer's change then causes another event.
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        } else if phase != "Running" {
            let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            let status = json!({"status": {"phase": "Running", "conditions": ready}});
            let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
        }
    }
}

/// Runs all commands against one of the clusters, and returns their outputs.
async fn transcript(bed: &Bed, kubeconfig: PathBuf, home: PathBuf) -> Vec<String> {
    bed.prepare().await;
    bed.until(&bed.core("serviceaccounts"), "default", |account| !account.is_null()).await;
    let kubelet = tokio::spawn(act_as_kubelet(Api::namespaced(bed.client.clone(), &bed.namespace)));
    let namespace = bed.namespace.clone();
    let outputs = tokio::task::spawn_blocking(move || run(&kubeconfig, &home, &namespace)).await.unwrap();
    kubelet.abort();
    bed.call("DELETE", &format!("/api/v1/namespaces/{}", bed.namespace), Value::Null).await;
    outputs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_prints_the_same_for_both_servers() {
    let Some(theirs) = real().await else {
        eprintln!("skipped: CONFORMANCE_KUBECONFIG names no server to compare with");
        return;
    };
    assert!(Command::new("kubectl").arg("version").arg("--client").output().is_ok(), "this needs kubectl on the PATH");
    let namespace = format!("kubectl-{}", std::process::id());
    let home = std::env::temp_dir().join(&namespace);
    let homes = ["ours", "theirs"].map(|side| home.join(side));
    for home in &homes {
        std::fs::create_dir_all(home).unwrap();
    }

    let (client, server) = ours();
    let stop = CancellationToken::new();
    let server = server.unwrap();
    Controllers::start(&server, Pace::default(), &stop);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kubeconfig = homes[0].join("kubeconfig");
    let cluster = json!({"name": "c", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}});
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster],
        "contexts": [{"name": "c", "context": {"cluster": "c"}}]});
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    tokio::spawn(crate::http::serve(server.clone(), listener, stop.clone()));

    let one = Bed::with_client(client, Some(server), namespace.clone()).await;
    let other = Bed::with_client(theirs, None, namespace).await;
    let real_config = PathBuf::from(std::env::var("CONFORMANCE_KUBECONFIG").unwrap());
    let (ours, theirs) =
        tokio::join!(transcript(&one, kubeconfig, homes[0].clone()), transcript(&other, real_config, homes[1].clone()));
    stop.cancel();
    std::fs::remove_dir_all(home).unwrap();

    let mut differences = Vec::new();
    for (((arguments, _), ours), theirs) in commands().iter().zip(ours).zip(theirs) {
        let (ours, theirs) = (comparable_output(arguments, &ours), comparable_output(arguments, &theirs));
        let mut found: Vec<String> = ours.difference(&theirs).map(|line| format!("  ours   {line}")).collect();
        found.extend(theirs.difference(&ours).map(|line| format!("  theirs {line}")));
        if !found.is_empty() {
            differences.push(format!("kubectl {}\n{}", arguments.join(" "), found.join("\n")));
        }
    }
    assert!(differences.is_empty(), "of {} commands:\n{}", commands().len(), differences.join("\n"));
}
