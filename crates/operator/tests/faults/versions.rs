//! Upgrades: this version takes over the objects of earlier versions unchanged, without restarting, replacing or moving
//! a worker. With `SLUICE_WRITE_FIXTURES=1` a release writes its folder in `tests/fixtures/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use embedded_kubernetes::faults::{Act, Faults};
use embedded_kubernetes::kinds::Resource;
use embedded_kubernetes::meta;
use embedded_kubernetes::store::key;
use serde_json::{Value, json};
use sluice_operator::Election;
use sluice_signals::JobKey;
use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// The resources that an operator leaves in a namespace.
const KINDS: [(&str, &str); 8] = [
    ("sluice.dev", "streamjobs"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("apps", "controllerrevisions"),
    ("", "pods"),
    ("", "configmaps"),
    ("coordination.k8s.io", "leases"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn start(world: &mut World) -> Faults {
    for name in ["orders", "ledger"] {
        world.plant.set_rate(&JobKey { namespace: NAMESPACE.to_owned(), name: name.to_owned() }, 220);
    }
    let election = Election { namespace: NAMESPACE.to_owned(), lease: "sluice".to_owned(), identity: "o-".to_owned() };
    world.start_operator(&"".parse().unwrap(), world.clock.clone(), Some(election))
}

/// Returns the objects that belong to the jobs.
fn left(world: &World, (group, plural): (&str, &str)) -> Vec<Value> {
    let mut all = world.list(group, plural);
    all.retain(|one| {
        meta::namespace(one) == NAMESPACE
            && !["bystander", "kube-root-ca.crt"].iter().any(|other| meta::name(one).starts_with(other))
    });
    all
}

/// Returns the objects of two jobs, one of each kind of workload, after 15 minutes.
async fn written() -> Vec<(&'static str, Vec<Value>)> {
    let mut world = World::new(23).await;
    start(&mut world);
    world.apply(&job("orders")).await;
    let mut ledger = job("ledger");
    ledger["spec"]["workload"]["kind"] = json!("StatefulSet");
    world.apply(&ledger).await;
    wait(900).await;
    let all = KINDS.map(|kind| (kind.1, left(&world, kind)));
    world.end();
    all.into()
}

/// Returns a world that contains these objects.
async fn found(all: &[(String, Vec<Value>)]) -> World {
    let world = World::new(29).await;
    for (plural, objects) in all {
        let group = KINDS.iter().find(|kind| kind.1 == plural).unwrap().0;
        for object in objects {
            let at = key(meta::namespace(object), meta::name(object));
            world.server.store().put(&Resource::new(group, plural), &at, None, object.clone()).unwrap();
        }
    }
    world
}

fn read(folder: &Path) -> Vec<(String, Vec<Value>)> {
    let text = |kind: &str| std::fs::read_to_string(folder.join(format!("{kind}.json"))).unwrap();
    KINDS.iter().map(|kind| (kind.1.to_owned(), serde_json::from_str(&text(kind.1)).unwrap())).collect()
}

/// Returns the facts that must not change within an hour: each pod, and replica count and generation of each workload.
fn kept(world: &World) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for kind in KINDS {
        for object in left(world, kind) {
            let (name, uid) = (meta::name(&object), meta::text(&object, "/metadata/uid"));
            all.insert(match kind.1 {
                "pods" => format!("pod {name} {uid} {}", object["status"]["containerStatuses"]),
                "leases" | "streamjobs" => continue,
                _ => format!(
                    "{} {name} {uid} {} {}",
                    kind.1, object["metadata"]["generation"], object["spec"]["replicas"]
                ),
            });
        }
    }
    all
}

/// Runs this version for an hour, and asserts that it writes nothing but leases, events and statuses.
async fn run_for_an_hour(world: &mut World, version: &str) {
    let before = kept(world);
    assert!(before.iter().filter(|one| one.starts_with("pod ")).count() >= 6, "{version}: {before:?}");
    let faults = start(world);
    wait(3600).await;
    assert_eq!(kept(world), before, "{version}");
    for request in faults.requests().iter().filter(|request| Act::Write.covers(request.act)) {
        let what = request.resource();
        assert!(
            ["leases", "events", "streamjobs/status"].contains(&what.as_str()),
            "{version}: {} {what}",
            request.act
        );
    }
}

/// Catalogue: T11.
#[tokio::test(start_paused = true)]
async fn objects_of_any_version_are_taken_over_unchanged() {
    let own = folder().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("SLUICE_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(&own).unwrap();
        for (plural, objects) in written().await {
            let text = serde_json::to_string_pretty(&objects).unwrap();
            std::fs::write(own.join(format!("{plural}.json")), text + "\n").unwrap();
        }
    }
    assert!(
        own.is_dir(),
        "this version has no fixtures: SLUICE_WRITE_FIXTURES=1 cargo test -p sluice-operator --test faults objects_of_any_version"
    );
    for version in std::fs::read_dir(folder()).unwrap() {
        let version = version.unwrap().path();
        let mut world = found(&read(&version)).await;
        run_for_an_hour(&mut world, &version.display().to_string()).await;
        world.end();
    }
}

/// A newer version has written fields that this one does not know: they stay, and no worker restarts.
///
/// Catalogue: T11.
#[tokio::test(start_paused = true)]
async fn unknown_fields_of_a_newer_version_are_kept() {
    let mut all = read(&folder().join(env!("CARGO_PKG_VERSION")));
    for (plural, objects) in &mut all {
        for object in objects.iter_mut() {
            match plural.as_str() {
                "streamjobs" => {
                    object["spec"]["future"] = json!({"a": [1]});
                    object["spec"]["scaling"]["future"] = json!("soon");
                    object["status"]["model"]["future"] = json!(1);
                }
                "deployments" | "statefulsets" => {
                    object["metadata"]["annotations"]["sluice.dev/future"] = json!("soon");
                }
                _ => {}
            }
        }
    }
    let mut world = found(&all).await;
    for definition in sluice_api::crds() {
        let mut definition = serde_json::to_value(definition).unwrap();
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            let schema = &mut version["schema"]["openAPIV3Schema"]["properties"];
            for path in ["/spec", "/spec/properties/scaling", "/status", "/status/properties/model"] {
                if let Some(part) = schema.pointer_mut(path) {
                    part["x-kubernetes-preserve-unknown-fields"] = json!(true);
                }
            }
        }
        world.apply(&definition).await;
    }
    run_for_an_hour(&mut world, "a newer version").await;
    for object in left(&world, KINDS[0]) {
        assert_eq!(object["spec"]["future"], json!({"a": [1]}), "{}", meta::name(&object));
        assert_eq!(object["spec"]["scaling"]["future"], "soon");
        assert_eq!(object["status"]["model"]["future"], 1);
    }
    world.end();
}
