//! A suspended job returns to its earlier number of workers after it is resumed.

use serde_json::json;
use sluice_signals::JobKey;
use sluice_testkit::world::{NAMESPACE, World, job, wait};

/// The time without workers was learned as a handover of 44 s, so no later change seemed worth its pause, and eight
/// workers stayed where three were enough.
#[tokio::test(start_paused = true)]
async fn resumed_job_does_not_learn_the_suspension_as_a_handover() {
    let mut world = World::new(13).await;
    let key = JobKey { namespace: NAMESPACE.to_owned(), name: "orders".to_owned() };
    world.plant.set_rate(&key, 220);
    world.start_operator(&"".parse().unwrap(), world.clock.clone(), None);
    let mut object = job("orders");
    world.apply(&object).await;
    wait(600).await;
    let number = |world: &World| world.list("sluice.dev", "streamjobs")[0]["status"]["replicas"].clone();
    assert_eq!(number(&world), 3);
    object["spec"]["suspend"] = json!(true);
    world.apply(&object).await;
    wait(60).await;
    assert_eq!(number(&world), 0);
    object["spec"]["suspend"] = json!(false);
    world.apply(&object).await;
    wait(20).await;
    assert!(number(&world).as_i64() >= Some(4), "the job catches up with the backlog: {}", number(&world));
    wait(2 * 3600).await;
    assert_eq!(number(&world), 3);
    let model = &world.list("sluice.dev", "streamjobs")[0]["status"]["model"];
    assert!(model["handoverMilliseconds"].as_i64().is_none_or(|learned| learned < 5_000), "{model}");
    world.end();
}
