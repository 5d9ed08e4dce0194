//! A test cluster: a server with its controllers, some nodes, and a stand-in for the kubelet.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::{Actor, Options, Server};
use crate::clock::Clock;
use crate::controllers::{Controllers, Pace};
use crate::kinds::Resource;
use crate::meta;
use crate::standin;
use crate::status::Status;
use crate::store::{self, Object};
use sluice_base::units::Seconds;

/// A cluster that runs in one thread.
pub(super) struct World {
    pub(super) server: Server,
    /// The client of the tests.
    pub(super) user: Actor,
    cancel: CancellationToken,
    controllers: Controllers,
}

impl World {
    pub(super) fn new() -> Self {
        Self::seeded(7, Pace::default())
    }

    pub(super) fn seeded(seed: u64, pace: Pace) -> Self {
        let clock = sluice_base::clock::Clock::starting_at(Seconds(1_800_000_000.0));
        let mut options = Options::new(Clock::new(clock));
        options.seed = Some(seed);
        options.history = 100_000;
        let server = Server::new(options);
        let cancel = CancellationToken::new();
        let controllers = Controllers::start(&server, pace, &cancel);
        let user = Actor::new(server.clone(), "user");
        Self { server, user, cancel, controllers }
    }

    /// Creates a cluster with a node for ten pods, and a kubelet that marks its pods as ready.
    pub(super) async fn with_node() -> Self {
        let world = Self::new();
        world.add_node("n", "10");
        world.run_kubelet();
        world.settle().await;
        world
    }

    pub(super) fn add_node(&self, name: &str, pods: &str) {
        standin::add_node(&self.user, name, pods).unwrap();
    }

    /// Changes the number of cores of a node.
    pub(super) fn change_node(&self, name: &str, cpu: &str) {
        let node = self.user.get(&Resource::new("", "nodes"), name).expect("the node");
        let mut status = node.value["status"].clone();
        status["allocatable"]["cpu"] = cpu.into();
        self.user.set_status(&node.value, status).unwrap();
    }

    pub(super) fn run_kubelet(&self) {
        standin::run(&self.server, Duration::from_secs(1), &self.cancel);
    }

    pub(super) fn create(&self, object: Value) -> Arc<Object> {
        self.user.create(object).unwrap()
    }

    pub(super) fn get(&self, resource: &Resource, name: &str) -> Option<Value> {
        self.user.get(resource, &store::key("default", name)).map(|object| object.value.clone())
    }

    pub(super) fn pods(&self) -> Vec<Value> {
        let all = self.user.list(&Resource::new("", "pods"), Some("default"));
        all.iter().map(|pod| pod.value.clone()).collect()
    }

    /// Changes an object of the namespace `default`.
    pub(super) fn change(&self, resource: &Resource, name: &str, change: impl Fn(&mut Value)) {
        let mut object = self.get(resource, name).expect("the object");
        change(&mut object);
        self.user.replace(&object, "").unwrap();
    }

    pub(super) fn delete(&self, resource: &Resource, name: &str, propagation: &str) -> Result<(), Status> {
        self.user.delete(&self.get(resource, name).expect("the object"), propagation, None)
    }

    /// Lets time pass until nothing has been written for 3 s.
    pub(super) async fn settle(&self) {
        for _ in 0..200 {
            let before = self.server.store().revision();
            tokio::time::sleep(Duration::from_secs(3)).await;
            if self.server.store().revision() == before {
                return;
            }
        }
        panic!("it never settles");
    }

    pub(super) async fn after(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// Returns the reasons and messages of the events about an object, sorted.
    pub(super) fn events(&self, about: &str) -> Vec<(String, String)> {
        let all = self.user.list(&Resource::new("", "events"), Some("default"));
        let about = all.iter().filter(|event| meta::text(&event.value, "/involvedObject/name") == about);
        let mut all: Vec<_> = about
            .map(|event| {
                (meta::text(&event.value, "/reason").to_owned(), meta::text(&event.value, "/message").to_owned())
            })
            .collect();
        all.sort();
        all
    }

    pub(super) async fn end(self) {
        self.cancel.cancel();
        self.controllers.ended().await;
    }
}

/// Returns a pod template with this image, and with these labels besides `app`.
pub(super) fn template(image: &str, labels: &[&str]) -> Value {
    let mut all = json!({"app": "a"});
    for label in labels {
        all[*label] = "yes".into();
    }
    json!({"metadata": {"labels": all}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// Returns a workload `a` of the group `apps`.
pub(super) fn workload(kind: &str, replicas: i64, changes: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": template("x:1", &[]),
        },
    });
    if let Value::Object(changes) = changes {
        object["spec"].as_object_mut().unwrap().extend(changes);
    }
    object
}

pub(super) fn apps(plural: &str) -> Resource {
    Resource::new("apps", plural)
}
