//! The operator as a process beside `sluice local`, and what it sends to those that its jobs name.

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

/// Writes down what it is sent, and answers with a page that asks for credentials.
async fn listener(heard: &Arc<Mutex<Vec<u8>>>) -> u16 {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::clone(heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    heard.lock().unwrap().extend_from_slice(&bytes[..length]);
                    let page = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n";
                    let _ = stream.write_all(page.as_bytes()).await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn t10_s13_the_operators_token_is_shown_to_no_broker_and_no_worker() {
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
    let times = |heard: &Arc<Mutex<Vec<u8>>>, text: &[u8]| {
        heard.lock().unwrap().windows(text.len()).filter(|bytes| *bytes == text).count()
    };
    // The second request of each is what follows on the answer.
    let asked = async {
        while times(&worker, b"GET /metrics") < 2 || times(&broker, b"krafka") < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, asked).await.is_err() {
        let job = serde_json::to_value(jobs.get("orders").await.unwrap()).unwrap();
        let lengths = [&broker, &worker].map(|heard| heard.lock().unwrap().len());
        panic!("broker and worker have not been asked for enough, but for {lengths:?} bytes: {}", job["status"]);
    }
    let kubeconfig = std::fs::read_to_string(&cluster.kubeconfig).unwrap();
    let token = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    assert!(token.len() >= 16, "a token");
    for (who, heard) in [("broker", &broker), ("worker", &worker)] {
        assert_eq!(times(heard, token.as_bytes()), 0, "{who}");
        assert_eq!(times(heard, b"uthorization"), 0, "{who}");
    }
    assert!(operator.try_wait().unwrap().is_none(), "it runs");
    operator.kill().await.unwrap();
    assert_eq!(cluster.end().await, 0);
}
