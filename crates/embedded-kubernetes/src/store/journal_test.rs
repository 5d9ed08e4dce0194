use axum::body::{Body, to_bytes};
use axum::http::Request;

use super::super::Store;
use super::*;
use crate::api::{Options, Server};
use crate::clock::Clock;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("embedded-journal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(self.0.join(LOG)).unwrap()
    }

    fn store(&self) -> Result<Store, JournalError> {
        Store::open(&self.0, 10)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn things() -> Resource {
    Resource::new("example.com", "things")
}

fn put(store: &Store, key: &str) -> u64 {
    let seen = store.get(&things(), key).map(|object| object.revision);
    store.put(&things(), key, seen, json!({"metadata": {}, "text": "a\nb"})).unwrap().revision
}

#[test]
fn reopened_store_has_its_objects_and_revision() {
    let folder = Folder::new("again");
    let store = folder.store().unwrap();
    put(&store, "a/x");
    put(&store, "a/y");
    let y = put(&store, "a/y");
    let x = store.get(&things(), "a/x").unwrap().revision;
    let last = store.remove(&things(), "a/x", x, json!({"metadata": {}})).unwrap().revision;
    drop(store);
    let store = folder.store().unwrap();
    assert!(store.get(&things(), "a/x").is_none());
    assert_eq!(store.get(&things(), "a/y").unwrap().revision, y);
    assert_eq!(store.get(&things(), "a/y").unwrap().value["text"], "a\nb");
    assert_eq!(store.revision(), last);
    assert_eq!(put(&store, "a/z"), last + 1);
    // The history before the restart is gone, so a watch from there has expired.
    assert!(store.watch(&things(), Some(y)).is_err());
    assert!(store.watch(&things(), Some(last)).is_ok());
}

#[test]
fn unfinished_last_line_is_dropped() {
    let folder = Folder::new("torn");
    let store = folder.store().unwrap();
    put(&store, "a/x");
    let whole = folder.log().len();
    put(&store, "a/y");
    drop(store);
    let bytes = folder.log();
    for end in [whole + 1, bytes.len() - 1] {
        std::fs::write(folder.0.join(LOG), &bytes[..end]).unwrap();
        let store = folder.store().unwrap();
        assert!(store.get(&things(), "a/x").is_some() && store.get(&things(), "a/y").is_none());
        assert_eq!(folder.log().len(), whole);
    }
}

#[test]
fn damaged_record_is_an_error_with_position_and_fix() {
    let folder = Folder::new("spoilt");
    let store = folder.store().unwrap();
    put(&store, "a/x");
    let second = folder.log().len();
    put(&store, "a/y");
    put(&store, "a/z");
    drop(store);
    let whole = folder.log();
    let mut bytes = whole.clone();
    // Still JSON, but the checksum does not match.
    let text = second + bytes[second..].windows(4).position(|text| text == br"a\nb").unwrap();
    bytes[text + 3] = b'c';
    std::fs::write(folder.0.join(LOG), &bytes).unwrap();
    let error = folder.store().unwrap_err().to_string();
    let fix = format!("truncate -s {second} {}", folder.0.join(LOG).display());
    assert!(error.contains(&format!("the record at byte {second} is damaged")), "{error}");
    assert!(error.contains(&fix), "{error}");
    // The fix works.
    std::fs::write(folder.0.join(LOG), &bytes[..second]).unwrap();
    assert!(folder.store().unwrap().get(&things(), "a/x").is_some());
    // A missing change is detected, too.
    let third = whole.len() - whole[..whole.len() - 1].iter().rev().position(|byte| *byte == b'\n').unwrap() - 1;
    let gap = [&whole[..second], &whole[third..]].concat();
    std::fs::write(folder.0.join(LOG), gap).unwrap();
    assert!(folder.store().unwrap_err().to_string().contains("at least one change is missing"));
}

#[test]
fn folded_log_that_was_not_truncated_is_harmless() {
    let folder = Folder::new("fold");
    let (mut journal, revision, mut objects) = Journal::open(&folder.0, 1).unwrap();
    let object = Object::new(revision + 1, json!({"metadata": {}}));
    journal.append(&things(), "a/x", &object, false).unwrap();
    let log = folder.log();
    objects.entry(things()).or_default().insert("a/x".to_owned(), Arc::new(object));
    journal.fold(revision + 1, &objects).unwrap();
    assert!(folder.log().is_empty());
    drop(journal);
    std::fs::write(folder.0.join(LOG), log).unwrap();
    let store = folder.store().unwrap();
    assert_eq!(store.revision(), revision + 1);
    assert!(store.get(&things(), "a/x").is_some());
}

#[test]
fn long_log_is_folded_without_loss() {
    let folder = Folder::new("long");
    let store = folder.store().unwrap();
    let text = "x".repeat(1024 * 1024);
    for number in 0..10 {
        store.put(&things(), &format!("a/{number}"), None, json!({"metadata": {}, "text": text})).unwrap();
    }
    let revision = store.revision();
    drop(store);
    assert!(folder.log().len() < 3 * 1024 * 1024);
    let store = folder.store().unwrap();
    assert_eq!((store.count(&things()), store.revision()), (10, revision));
}

#[tokio::test]
async fn change_that_cannot_be_stored_stops_all_writes() {
    let folder = Folder::new("full");
    let store = folder.store().unwrap();
    let first = put(&store, "a/x");
    let log = folder.0.join(LOG);
    let journal = |file| store.write().journal.as_mut().unwrap().log = file;
    journal(File::open(&log).unwrap());
    let change = || store.put(&things(), "a/x", Some(first), json!({"metadata": {}}));
    assert!(change().is_err());
    assert_eq!(store.revision(), first);
    let why = store.failed().await;
    assert!(why.starts_with(&format!("failed to write {}: ", log.display())), "{why}");
    let server = Server::with_store(Options::new(Clock::new(sluice_base::clock::Clock::system())), store.clone());
    let body = r#"{"metadata": {"name": "a"}}"#;
    let request = Request::post("/api/v1/namespaces/default/configmaps").body(Body::from(body)).unwrap();
    let answer = server.answer(request).await;
    assert_eq!(answer.status(), 500);
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("free disk space"), "{body:?}");
    // Writes stay refused even if the disk works again, because the log would lack a change for ever.
    journal(OpenOptions::new().append(true).open(&log).unwrap());
    assert!(change().is_err());
}

#[test]
fn folder_is_used_by_one_process_at_a_time() {
    let folder = Folder::new("taken");
    let _store = folder.store().unwrap();
    assert!(matches!(folder.store(), Err(JournalError::InUse { .. })));
}
