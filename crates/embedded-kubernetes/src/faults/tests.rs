//! Tests each fault with the operator's client library.

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

/// A server, and a client for which faults are planned.
struct FaultTest {
    server: Server,
    faults: Faults,
}

impl FaultTest {
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

    /// Returns a client without faults.
    fn unaffected_client(&self) -> Api<ConfigMap> {
        Api::namespaced(Client::new(InMemory::new(self.server.clone()), "default"), "default")
    }

    async fn exists(&self, name: &str) -> bool {
        self.unaffected_client().get_opt(name).await.unwrap().is_some()
    }
}

fn named(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

async fn create(api: &Api<ConfigMap>, name: &str) -> kube::Result<ConfigMap> {
    api.create(&PostParams::default(), &named(name)).await
}

/// Lets paused time advance.
async fn advance(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn never_answers<T>(request: impl Future<Output = T>) {
    assert!(timeout(Duration::from_hours(1), request).await.is_err(), "it was answered");
}

#[tokio::test(start_paused = true)]
async fn crash_keeps_the_write_and_gives_no_answer() {
    let test = FaultTest::new("create#2=crash");
    let (api, crashed) = test.connect();
    create(&api, "a").await.unwrap();
    assert!(!crashed.is_cancelled());
    never_answers(create(&api, "b")).await;
    assert!(crashed.is_cancelled() && test.exists("b").await);
    // A crashed client gets no answers, and the next life has its own connection.
    never_answers(create(&api, "c")).await;
    let (api, crashed) = test.connect();
    create(&api, "d").await.unwrap();
    assert!(!crashed.is_cancelled() && !test.exists("c").await && test.exists("d").await);
    let lives: Vec<u32> = test.faults.requests().iter().map(|request| request.life).collect();
    assert_eq!(lives, [1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn writes_are_lost_before_or_after_or_delayed() {
    let test = FaultTest::new("create#1=crash-before create#2=lost create#3=reset create#4=late(5) create#5=silent");
    let (api, _) = test.connect();
    never_answers(create(&api, "before")).await;
    let (api, _) = test.connect();
    assert!(create(&api, "lost").await.is_err() && test.exists("lost").await);
    assert!(create(&api, "reset").await.is_err());
    assert!(create(&api, "late").await.is_err());
    advance(4).await;
    assert!(!test.exists("late").await, "the request is delayed by five seconds");
    advance(2).await;
    assert!(test.exists("late").await);
    never_answers(create(&api, "silent")).await;
    for name in ["before", "reset", "silent"] {
        assert!(!test.exists(name).await, "{name}");
    }
    let codes: Vec<Option<u16>> = test.faults.requests().iter().map(|request| request.code).collect();
    assert_eq!(codes, [None, Some(201), None, Some(201), None]);
    assert!(test.faults.all_done());
}

#[tokio::test(start_paused = true)]
async fn delayed_request_survives_a_crash() {
    let test = FaultTest::new("create#1=crash-late(5)");
    let (api, crashed) = test.connect();
    let request = tokio::spawn(async move { create(&api, "a").await });
    crashed.cancelled().await;
    request.abort();
    advance(4).await;
    assert!(!test.exists("a").await, "the request is delayed by five seconds");
    advance(2).await;
    assert!(test.exists("a").await);
}

#[tokio::test(start_paused = true)]
async fn refusal_has_a_server_reason_and_no_effect() {
    let test = FaultTest::new("1/patch:configmaps#1=refuse(409) patch#2=delay(7)");
    let (api, _) = test.connect();
    let patch = || async {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        api.patch("a", &PatchParams::apply("test"), &Patch::Apply(body)).await
    };
    let Err(kube::Error::Api(status)) = patch().await else { panic!("it was not refused") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(!test.exists("a").await);
    let before = test.server.clock().monotonic();
    patch().await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    assert_eq!(test.faults.requests()[0].harm, Some(Harm::Refuse(409)));
}

#[tokio::test(start_paused = true)]
async fn list_of_any_version_shows_the_planned_revision() {
    let test = FaultTest::new("");
    let (api, _) = test.connect();
    create(&api, "a").await.unwrap();
    let then = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    create(&api, "b").await.unwrap();
    let test =
        FaultTest { faults: Faults::new(&format!("list#1-2=at({then})").parse().unwrap(), test.faults.clock), ..test };
    let (api, _) = test.connect();
    let names = |list: Vec<ConfigMap>| list.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    let any = ListParams::default().at("0");
    assert_eq!(names(api.list(&any).await.unwrap().items), ["a"]);
    assert_eq!(names(api.list(&ListParams::default()).await.unwrap().items), ["a", "b"]);
}

/// Watches objects while five are created, one each second. Returns the events with their second.
async fn observed_events(plan: &str) -> Vec<(u64, String)> {
    let test = FaultTest::new(plan);
    let (api, _) = test.connect();
    let unaffected = test.unaffected_client();
    let begin = test.server.clock().monotonic();
    tokio::spawn(async move {
        for name in ["a", "b", "c", "d", "e"] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            create(&unaffected, name).await.unwrap();
        }
    });
    let changes = watcher(api, watcher::Config::default()).take_until(tokio::time::sleep(Duration::from_mins(1)));
    let mut changes = std::pin::pin!(changes);
    let mut events = Vec::new();
    while let Some(change) = changes.next().await {
        let what = match change {
            Ok(watcher::Event::Init) => "init".to_owned(),
            Ok(watcher::Event::InitDone) => continue,
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => object.name_any(),
            Ok(watcher::Event::Delete(object)) => format!("-{}", object.name_any()),
            Err(_) => "error".to_owned(),
        };
        events.push((begin.elapsed().as_secs(), what));
    }
    assert!(test.faults.all_done());
    events
}

fn lines(events: &[(u64, String)]) -> String {
    events.iter().map(|(second, what)| format!("{second}{what}")).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn watch_stalls_lags_or_repeats_lines() {
    assert_eq!(lines(&observed_events("").await), "0init 1a 2b 3c 4d 5e");
    assert_eq!(lines(&observed_events("watch#1=stall(3)").await), "0init 3a 3b 3c 4d 5e");
    assert_eq!(lines(&observed_events("watch#1=twice").await), "0init 1a 1a 2b 2b 3c 3c 4d 4d 5e 5e");
    // The first object is created at revision 6, after the objects of a new server.
    assert_eq!(lines(&observed_events("watch#1=hold(7,10)").await), "0init 1a 2b 13c 13d 13e");
    assert_eq!(lines(&observed_events("watch#1=overtaken(7,9)").await), "0init 1a 2b 4c 4d 5e");
    assert_eq!(lines(&observed_events("watch#1=overtaken(7,99)").await), "0init 1a 2b 13c 13d 13e");
}

#[tokio::test(start_paused = true)]
async fn broken_watch_resumes_where_it_stopped() {
    assert_eq!(lines(&observed_events("watch#1=cut(2)").await), "0init 1a 2b 3error 3c 4d 5e");
    assert_eq!(lines(&observed_events("watch#1=expire").await), "0init 0error 0init 1a 2b 3c 4d 5e");
    assert_eq!(lines(&observed_events("watch#1=gap(7,9)").await), "0init 1a 4error 4init 4a 4b 4c 4d 5e");
}

#[tokio::test(start_paused = true)]
async fn runs_of_the_same_plan_are_identical() {
    let plan = "watch#1=cut(1) watch#2=hold(7,3)";
    assert_eq!(observed_events(plan).await, observed_events(plan).await);
}
