//! Tests with the client kube-rs: reflectors over paged lists and over streaming lists.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde_json::{Value, json};

use super::{Bed, conformance};

conformance! {
    reflector_follows_paged_lists;
    reflector_follows_streaming_lists;
    watcher_survives_an_expired_history;
}

async fn follow(bed: &Bed, config: watcher::Config) {
    let api: Api<ConfigMap> = Api::namespaced(bed.client.clone(), &bed.namespace);
    for name in ["a", "b", "c"] {
        bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"name": name}})).await;
    }
    let (reader, writer) = reflector::store();
    let stream = reflector::reflector(writer, watcher(api, config)).touched_objects();
    let task = tokio::spawn(stream.for_each(|_| std::future::ready(())));
    reader.wait_until_ready().await.unwrap();
    bed.ok("DELETE", &bed.core("configmaps/b"), Value::Null).await;
    bed.merge(&bed.core("configmaps/c"), json!({"data": {"x": "1"}})).await;
    bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"name": "d"}})).await;
    let current = || {
        let mut current: Vec<(String, bool)> = reader
            .state()
            .iter()
            .map(|map| (map.metadata.name.clone().unwrap(), map.data.is_some()))
            .filter(|(name, _)| name.len() == 1)
            .collect();
        current.sort();
        current
    };
    let wanted = [("a", false), ("c", true), ("d", false)].map(|(name, data)| (name.to_owned(), data));
    for _ in 0..200 {
        if current() == wanted {
            task.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{:?}", current());
}

async fn reflector_follows_paged_lists(bed: &Bed) {
    follow(bed, watcher::Config::default().page_size(1)).await;
}

async fn reflector_follows_streaming_lists(bed: &Bed) {
    follow(bed, watcher::Config::default().streaming_lists()).await;
}

async fn watcher_survives_an_expired_history(bed: &Bed) {
    let Some(server) = bed.ours() else { return };
    let api: Api<ConfigMap> = Api::namespaced(bed.client.clone(), &bed.namespace);
    let config = watcher::Config::default().timeout(1);
    let mut stream = std::pin::pin!(watcher(api, config).applied_objects());
    bed.ok("POST", &bed.core("configmaps"), json!({"metadata": {"name": "a"}})).await;
    assert_eq!(stream.try_next().await.unwrap().unwrap().metadata.name.as_deref(), Some("a"));
    for number in 0..600 {
        bed.merge(&bed.core("configmaps/a"), json!({"data": {"x": number.to_string()}})).await;
    }
    server.store().compact(server.store().revision());
    let mut last = String::new();
    while last != "599" {
        if let Ok(Some(map)) = stream.try_next().await {
            last = map.data.unwrap_or_default().get("x").cloned().unwrap_or_default();
        }
    }
}
