//! Checks what the operator, a process beside `sluice local`, sends to the brokers and workers that its jobs name.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::Cluster;
use sluice_testkit::processes::{Folder, PATIENCE};

/// Starts a listener that records what it receives and responds with a request for credentials.
async fn listener(received: &Arc<Mutex<Vec<u8>>>) -> u16 {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::clone(received);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let received = Arc::clone(&received);
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    received.lock().unwrap().extend_from_slice(&bytes[..length]);
                    let page = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n";
                    let _ = stream.write_all(page.as_bytes()).await;
                }
            });
        }
    });
    port
}

/// Catalogue: T10, S13.
#[tokio::test]
async fn the_operators_token_is_never_sent_to_brokers_or_workers() {
    let folder = Folder::new("token");
    let cluster = Cluster::start(&folder, &[]).await;
    let (broker, worker) = (Arc::default(), Arc::default());
    let (kafka, port) = (listener(&broker).await, listener(&worker).await);
    let mut operator = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["operator", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8", "--log", "error"])
        .env("KUBECONFIG", &cluster.kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let container = json!({"name": "c", "image": "none", "command": ["sleep", "1000000"], "ports": [{"name": "metrics", "containerPort": port}]});
    let job = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": "orders"},
        "spec": {
            "objective": {"latency": "10s"}, "maxReplicas": 4, "metrics": {"port": "metrics"},
            "sources": [{"name": "in", "kafka": {
                "bootstrapServers": [format!("127.0.0.1:{kafka}")], "topic": "orders", "consumerGroup": "g",
            }}],
            "workload": {"template": {"spec": {"containers": [container]}}},
        },
    });
    let jobs: Api<sluice_api::StreamJob> = Api::default_namespaced(cluster.client.clone());
    jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
    let count = |received: &Arc<Mutex<Vec<u8>>>, text: &[u8]| {
        received.lock().unwrap().windows(text.len()).filter(|bytes| *bytes == text).count()
    };
    // Two requests of each, so that the reaction to the response is included.
    let requested = async {
        while count(&worker, b"GET /metrics") < 2 || count(&broker, b"krafka") < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, requested).await.is_err() {
        let job = serde_json::to_value(jobs.get("orders").await.unwrap()).unwrap();
        let lengths = [&broker, &worker].map(|received| received.lock().unwrap().len());
        panic!("broker and worker received only {lengths:?} bytes: {}", job["status"]);
    }
    let kubeconfig = std::fs::read_to_string(&cluster.kubeconfig).unwrap();
    let token = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    assert!(token.len() >= 16, "a token");
    for (name, received) in [("broker", &broker), ("worker", &worker)] {
        assert_eq!(count(received, token.as_bytes()), 0, "{name}");
        assert_eq!(count(received, b"uthorization"), 0, "{name}");
    }
    assert!(operator.try_wait().unwrap().is_none(), "the operator is running");
    operator.kill().await.unwrap();
    assert_eq!(cluster.end().await, 0);
}
