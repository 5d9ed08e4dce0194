use serde_json::json;

use super::*;

fn things() -> Resource {
    Resource::new("example.com", "things")
}

fn thing(size: u32) -> Value {
    json!({"metadata": {}, "size": size})
}

fn put(store: &Store, key: &str, size: u32) -> u64 {
    let seen = store.get(&things(), key).map(|object| object.revision);
    store.put(&things(), key, seen, thing(size)).unwrap().revision
}

fn sizes(page: &Page) -> Vec<(&str, u64)> {
    page.objects.iter().map(|(key, object)| (key.as_str(), object.value["size"].as_u64().unwrap())).collect()
}

#[test]
fn all_resources_share_one_revision() {
    let store = Store::new(HISTORY);
    let first = put(&store, "a/x", 1);
    let other = store.put(&Resource::new("", "pods"), "a/x", None, thing(1)).unwrap();
    assert_eq!(other.revision, first + 1);
    assert_eq!(put(&store, "a/x", 2), first + 2);
    assert_eq!(store.get(&things(), "a/x").unwrap().value["metadata"]["resourceVersion"], (first + 2).to_string());
}

#[test]
fn write_with_an_old_revision_is_refused() {
    let store = Store::new(HISTORY);
    let first = put(&store, "a/x", 1);
    put(&store, "a/x", 2);
    assert_eq!(store.put(&things(), "a/x", Some(first), thing(3)).unwrap_err(), Raced);
    assert_eq!(store.put(&things(), "a/x", None, thing(3)).unwrap_err(), Raced);
    assert_eq!(store.remove(&things(), "a/x", first, thing(3)).unwrap_err(), Raced);
}

#[test]
fn list_shows_an_earlier_revision() {
    let store = Store::new(HISTORY);
    put(&store, "a/x", 1);
    put(&store, "a/y", 1);
    let then = put(&store, "b/x", 1);
    put(&store, "a/x", 2);
    let y = store.get(&things(), "a/y").unwrap().revision;
    store.remove(&things(), "a/y", y, thing(1)).unwrap();
    put(&store, "a/z", 1);
    let page = store.list(&things(), Some("a"), Some(then), None).unwrap();
    assert_eq!(sizes(&page), [("a/x", 1), ("a/y", 1)]);
    let page = store.list(&things(), None, Some(then), Some("a/x")).unwrap();
    assert_eq!(sizes(&page), [("a/y", 1), ("b/x", 1)]);
    let page = store.list(&things(), Some("a"), None, None).unwrap();
    assert_eq!(sizes(&page), [("a/x", 2), ("a/z", 1)]);
}

#[test]
fn revision_that_left_the_history_has_expired() {
    let store = Store::new(2);
    let first = put(&store, "a/x", 1);
    put(&store, "a/x", 2);
    put(&store, "a/x", 3);
    assert!(store.list(&things(), None, Some(first), None).is_ok());
    put(&store, "a/x", 4);
    assert_eq!(
        store.list(&things(), None, Some(first), None).unwrap_err(),
        Expired { asked: first, oldest: first + 1 }
    );
    assert!(store.watch(&things(), Some(first)).is_err());
    store.compact(store.revision());
    assert!(store.watch(&things(), Some(first + 2)).is_err());
    assert!(store.watch(&things(), Some(store.revision())).is_ok());
}

#[tokio::test]
async fn watcher_gets_all_changes_in_order_or_an_error() {
    let store = Store::new(3);
    let mut watch = store.watch(&things(), None).unwrap();
    let waiting = tokio::spawn(async move { (watch.next().await.unwrap().len(), watch) });
    tokio::task::yield_now().await;
    put(&store, "a/x", 1);
    let (count, mut watch) = waiting.await.unwrap();
    assert_eq!(count, 1);
    put(&store, "a/x", 2);
    put(&store, "a/x", 3);
    let revisions: Vec<_> = watch.next().await.unwrap().iter().map(|event| event.object.revision).collect();
    assert_eq!(revisions, [3, 4]);
    for size in 0..4 {
        put(&store, "a/x", size);
    }
    assert!(watch.next().await.is_err());
}

#[tokio::test]
async fn compaction_keeps_a_watch_that_missed_nothing() {
    let store = Store::new(HISTORY);
    put(&store, "a/x", 1);
    let mut watch = store.watch(&things(), None).unwrap();
    store.put(&Resource::new("", "pods"), "a/x", None, thing(1)).unwrap();
    store.compact(store.revision());
    put(&store, "a/x", 2);
    assert_eq!(watch.next().await.unwrap().len(), 1);
}
