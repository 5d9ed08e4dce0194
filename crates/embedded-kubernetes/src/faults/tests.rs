//! Each fault, met by the client that the operator has.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Faults, Harm};
use crate::api::{Options, Server};
use crate::clock::Clock;
use crate::service::InMemory;
use sluice_base::units::Seconds;

/// A server, and a client of it that the faults of a plan are for.
struct World {
    server: Server,
    faults: Faults,
}

impl World {
    fn new(plan: &str) -> Self {
        let clock = Clock::new(sluice_base::clock::Clock::starting_at(Seconds(1_800_000_000.0)));
        let mut options = Options::new(clock.clone());
        options.seed = Some(1);
        Self { server: Server::new(options), faults: Faults::new(&plan.parse().unwrap(), clock) }
    }

    fn connect(&self) -> (Api<ConfigMap>, CancellationToken) {
        let (connection, crashed) = self.faults.connect(InMemory::new(self.server.clone()));
        (Api::namespaced(Client::new(connection, "default"), "default"), crashed)
    }

    /// Somebody to whom nothing happens.
    fn witness(&self) -> Api<ConfigMap> {
        Api::namespaced(Client::new(InMemory::new(self.server.clone()), "default"), "default")
    }

    async fn there(&self, name: &str) -> bool {
        self.witness().get_opt(name).await.unwrap().is_some()
    }
}

fn named(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

async fn create(api: &Api<ConfigMap>, name: &str) -> kube::Result<ConfigMap> {
    api.create(&PostParams::default(), &named(name)).await
}

/// Lets virtual time pass.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn never<T>(request: impl Future<Output = T>) {
    assert!(timeout(Duration::from_hours(1), request).await.is_err(), "it was answered");
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_the_write_and_no_answer() {
    let world = World::new("create#2=crash");
    let (api, crashed) = world.connect();
    create(&api, "a").await.unwrap();
    assert!(!crashed.is_cancelled());
    never(create(&api, "b")).await;
    assert!(crashed.is_cancelled() && world.there("b").await);
    // The dead ask for nothing, and the next life is another.
    never(create(&api, "c")).await;
    let (api, crashed) = world.connect();
    create(&api, "d").await.unwrap();
    assert!(!crashed.is_cancelled() && !world.there("c").await && world.there("d").await);
    let lives: Vec<u32> = world.faults.requests().iter().map(|request| request.life).collect();
    assert_eq!(lives, [1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_lost_before_or_after_it_is_done_or_done_later() {
    let world = World::new("create#1=crash-before create#2=lost create#3=reset create#4=late(5) create#5=silent");
    let (api, _) = world.connect();
    never(create(&api, "before")).await;
    let (api, _) = world.connect();
    assert!(create(&api, "lost").await.is_err() && world.there("lost").await);
    assert!(create(&api, "reset").await.is_err());
    assert!(create(&api, "late").await.is_err());
    pass(4).await;
    assert!(!world.there("late").await, "it is on its way for five seconds");
    pass(2).await;
    assert!(world.there("late").await);
    never(create(&api, "silent")).await;
    for name in ["before", "reset", "silent"] {
        assert!(!world.there(name).await, "{name}");
    }
    let codes: Vec<Option<u16>> = world.faults.requests().iter().map(|request| request.code).collect();
    assert_eq!(codes, [None, Some(201), None, Some(201), None]);
    assert!(world.faults.all_done());
}

#[tokio::test(start_paused = true)]
async fn a_request_of_the_dead_is_done_in_the_next_life() {
    let world = World::new("create#1=crash-late(5)");
    let (api, crashed) = world.connect();
    let request = tokio::spawn(async move { create(&api, "a").await });
    crashed.cancelled().await;
    request.abort();
    pass(4).await;
    assert!(!world.there("a").await, "it is on its way for five seconds");
    pass(2).await;
    assert!(world.there("a").await);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_the_words_of_a_server_and_does_nothing() {
    let world = World::new("1/patch:configmaps#1=refuse(409) patch#2=delay(7)");
    let (api, _) = world.connect();
    let patch = || async {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        api.patch("a", &PatchParams::apply("test"), &Patch::Apply(body)).await
    };
    let Err(kube::Error::Api(status)) = patch().await else { panic!("it was not refused") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(!world.there("a").await);
    let before = world.server.clock().monotonic();
    patch().await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    assert_eq!(world.faults.requests()[0].harm, Some(Harm::Refuse(409)));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_of_the_past_for_those_whom_any_version_suits() {
    let world = World::new("");
    let (api, _) = world.connect();
    create(&api, "a").await.unwrap();
    let then = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    create(&api, "b").await.unwrap();
    let world =
        World { faults: Faults::new(&format!("list#1-2=at({then})").parse().unwrap(), world.faults.clock), ..world };
    let (api, _) = world.connect();
    let names = |list: Vec<ConfigMap>| list.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    let any = ListParams::default().at("0");
    assert_eq!(names(api.list(&any).await.unwrap().items), ["a"]);
    assert_eq!(names(api.list(&ListParams::default()).await.unwrap().items), ["a", "b"]);
}

/// Follows the objects while five are made, a second between them; returns what it was told of, with the second.
async fn told(plan: &str) -> Vec<(u64, String)> {
    let world = World::new(plan);
    let (api, _) = world.connect();
    let witness = world.witness();
    let begin = world.server.clock().monotonic();
    tokio::spawn(async move {
        for name in ["a", "b", "c", "d", "e"] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            create(&witness, name).await.unwrap();
        }
    });
    let changes = watcher(api, watcher::Config::default()).take_until(tokio::time::sleep(Duration::from_mins(1)));
    let mut changes = std::pin::pin!(changes);
    let mut told = Vec::new();
    while let Some(change) = changes.next().await {
        let what = match change {
            Ok(watcher::Event::Init) => "init".to_owned(),
            Ok(watcher::Event::InitDone) => continue,
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => object.name_any(),
            Ok(watcher::Event::Delete(object)) => format!("-{}", object.name_any()),
            Err(_) => "error".to_owned(),
        };
        told.push((begin.elapsed().as_secs(), what));
    }
    assert!(world.faults.all_done());
    told
}

fn lines(told: &[(u64, String)]) -> String {
    told.iter().map(|(second, what)| format!("{second}{what}")).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn a_watch_stalls_falls_behind_or_repeats_itself() {
    assert_eq!(lines(&told("").await), "0init 1a 2b 3c 4d 5e");
    assert_eq!(lines(&told("watch#1=stall(3)").await), "0init 3a 3b 3c 4d 5e");
    assert_eq!(lines(&told("watch#1=twice").await), "0init 1a 1a 2b 2b 3c 3c 4d 4d 5e 5e");
    // The first is made at revision 6, after what a server begins with.
    assert_eq!(lines(&told("watch#1=hold(7,10)").await), "0init 1a 2b 13c 13d 13e");
    assert_eq!(lines(&told("watch#1=overtaken(7,9)").await), "0init 1a 2b 4c 4d 5e");
    assert_eq!(lines(&told("watch#1=overtaken(7,99)").await), "0init 1a 2b 13c 13d 13e");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    assert_eq!(lines(&told("watch#1=cut(2)").await), "0init 1a 2b 3error 3c 4d 5e");
    assert_eq!(lines(&told("watch#1=expire").await), "0init 0error 0init 1a 2b 3c 4d 5e");
    assert_eq!(lines(&told("watch#1=gap(7,9)").await), "0init 1a 4error 4init 4a 4b 4c 4d 5e");
}

#[tokio::test(start_paused = true)]
async fn two_runs_of_a_plan_are_the_same() {
    let plan = "watch#1=cut(1) watch#2=hold(7,3)";
    assert_eq!(told(plan).await, told(plan).await);
}
