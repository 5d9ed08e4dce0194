use axum::body::to_bytes;
use axum::http::Request;
use serde_json::json;

use super::super::Options;
use super::*;
use crate::clock::Clock;
use crate::kinds::Resource;

/// A server with a pod of one container in a given state, and the logs of its runs.
struct Fixture {
    server: Server,
    folder: PathBuf,
    file: PathBuf,
}

impl Fixture {
    fn new(name: &str, runs: i32, state: &Value, last: &Value) -> Self {
        let folder = std::env::temp_dir().join(format!("embedded-logs-{}-{name}", std::process::id()));
        let logs = Logs::new(folder.clone());
        let mut options = Options::new(Clock::new(sluice_base::clock::Clock::system()));
        options.logs = Some(logs.clone());
        let server = Server::new(options);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default", "uid": "u"},
            "spec": {"nodeName": "local", "containers": [{"name": "c"}]},
            "status": {"containerStatuses": [{"name": "c", "restartCount": runs, "state": state, "lastState": last}]},
        });
        server.store().put(&pods(), "default/p", None, pod).unwrap();
        let file = Logs::file(&logs.pod("default", "p", "u"), "c", runs);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        Self { server, folder, file }
    }

    async fn ask(&self, query: &str) -> (u16, Body) {
        let uri = format!("/api/v1/namespaces/default/pods/p/log?{query}");
        let answer = self.server.answer(Request::get(uri).body(Body::empty()).unwrap()).await;
        (answer.status().as_u16(), answer.into_body())
    }

    async fn text(&self, query: &str) -> String {
        let (_, body) = self.ask(query).await;
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        let status: Value = serde_json::from_str(&text).unwrap_or_default();
        status["message"].as_str().map_or(text, str::to_owned)
    }

    fn append(&self, lines: &str) {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.file);
        file.unwrap().write_all(lines.as_bytes()).unwrap();
    }

    fn state(&self, state: Value) {
        let pod = self.server.store().get(&pods(), "default/p").unwrap();
        let mut new = pod.value.clone();
        new["status"]["containerStatuses"][0]["state"] = state;
        self.server.store().put(&pods(), "default/p", Some(pod.revision), new).unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn pods() -> Resource {
    Resource::new("", "pods")
}

fn running() -> Value {
    json!({"running": {}})
}

fn ended() -> Value {
    json!({"terminated": {"exitCode": 1}})
}

const LINES: &str = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n";

#[tokio::test]
async fn query_selects_parts_of_the_log() {
    let fixture = Fixture::new("parts", 0, &running(), &json!({}));
    fixture.append(LINES);
    assert_eq!(fixture.text("").await, "one\ntwo\n");
    assert_eq!(fixture.text("tailLines=1").await, "two\n");
    assert_eq!(fixture.text("limitBytes=5").await, "one\nt");
    assert_eq!(fixture.text("timestamps=true&tailLines=1").await, "2026-01-01T00:00:01Z two\n");
    assert_eq!(fixture.text("sinceTime=2026-01-01T00:00:01Z").await, "two\n");
    assert_eq!(fixture.text("sinceSeconds=60").await, "");
    assert_eq!(fixture.ask("tailLines=-1").await.0, 422);
    assert_eq!(fixture.text("container=x").await, "container x is not valid for pod p");
    let none = fixture.text("previous=true").await;
    assert_eq!(none, "previous terminated container \"c\" in pod \"p\" not found");
}

#[tokio::test]
async fn previous_log_is_that_of_the_last_ended_run() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let fixture = Fixture::new("waiting", 1, &waiting, &ended());
    fixture.append(LINES);
    // No run has started since, so both requests return the log of the last run.
    assert_eq!(fixture.text("").await, "one\ntwo\n");
    assert_eq!(fixture.text("previous=true").await, "one\ntwo\n");
    fixture.state(running());
    assert_eq!(fixture.text("previous=true").await, "");
    let fresh = Fixture::new("fresh", 0, &json!({"waiting": {"reason": "ContainerCreating"}}), &json!({}));
    let why = fresh.text("").await;
    assert_eq!(why, "container \"c\" in pod \"p\" is waiting to start: ContainerCreating");
}

#[tokio::test]
async fn logs_of_another_node_are_reported_unavailable() {
    let fixture = Fixture::new("far", 0, &running(), &json!({}));
    std::fs::remove_dir_all(&fixture.folder).unwrap();
    let why = fixture.text("").await;
    assert!(why.contains("node \"local\" is not part of this process"), "{why}");
    assert_eq!(fixture.ask("").await.0, 500);
}

#[tokio::test(start_paused = true)]
async fn followed_log_continues_across_its_halves() {
    use futures::StreamExt as _;
    let fixture = Fixture::new("follow", 0, &running(), &json!({}));
    fixture.append(LINES);
    let (_, body) = fixture.ask("follow=true&tailLines=1").await;
    let mut chunks = body.into_data_stream();
    assert_eq!(chunks.next().await.unwrap().unwrap(), "two\n");
    // An unfinished line is not sent.
    fixture.append("2026-01-01T00:00:02Z stdout F th");
    let mut next = std::pin::pin!(chunks.next());
    assert!(futures::poll!(&mut next).is_pending());
    fixture.append("ree\n");
    assert_eq!(next.await.unwrap().unwrap(), "three\n");
    fixture.append("2026-01-01T00:00:03Z stdout F four\n");
    std::fs::rename(&fixture.file, Logs::older(&fixture.file)).unwrap();
    fixture.append("2026-01-01T00:00:04Z stdout F five\n");
    assert_eq!(chunks.next().await.unwrap().unwrap(), "four\n");
    assert_eq!(chunks.next().await.unwrap().unwrap(), "five\n");
    fixture.append("2026-01-01T00:00:05Z stdout F six\n");
    fixture.state(ended());
    assert_eq!(chunks.next().await.unwrap().unwrap(), "six\n");
    assert!(chunks.next().await.is_none());
}
