//! Two runs with the same seed make the same writes in the same order.

use std::time::Duration;

use serde_json::json;

use super::World;
use super::world::{apps, template, workload};
use crate::controllers::Pace;
use crate::kinds::Resource;

/// Returns all writes to all resources, in order.
async fn transcript(seed: u64) -> Vec<String> {
    let world = World::seeded(seed, Pace { longest: Duration::from_millis(500), seed });
    world.add_node("m", "5");
    world.add_node("n", "5");
    world.run_kubelet();
    world.create(workload("Deployment", 4, json!({})));
    world.after(2).await;
    world.change(&apps("deployments"), "a", |deployment| deployment["spec"]["template"] = template("x:2", &[]));
    world.after(3).await;
    world.change(&apps("deployments"), "a", |deployment| deployment["spec"]["replicas"] = 2.into());
    world.settle().await;
    world.delete(&apps("deployments"), "a", "Foreground").unwrap();
    world.settle().await;
    let mut all = Vec::new();
    let mut resources: Vec<Resource> = world.user.stored().iter().map(|kind| kind.resource()).collect();
    resources.push(Resource::new("", "events"));
    resources.sort();
    resources.dedup();
    for resource in resources {
        let mut watch = world.server.store().watch(&resource, Some(1)).unwrap();
        loop {
            let events = watch.read().unwrap();
            if events.is_empty() {
                break;
            }
            all.extend(events.iter().map(|event| {
                (event.object.revision, format!("{:?} {} {}", event.change, resource.plural, event.object.value))
            }));
        }
    }
    world.end().await;
    all.sort();
    all.into_iter().map(|(_, line)| line).collect()
}

#[tokio::test(start_paused = true)]
async fn runs_with_the_same_seed_are_identical() {
    let (first, second) = (transcript(3).await, transcript(3).await);
    assert!(first.len() > 80, "{} writes", first.len());
    let differing = first.iter().zip(&second).find(|(a, b)| a != b);
    assert_eq!(differing, None);
    assert_eq!(first.len(), second.len());
}

#[tokio::test(start_paused = true)]
async fn runs_with_different_seeds_differ() {
    assert_ne!(transcript(3).await, transcript(4).await);
}

#[tokio::test(start_paused = true)]
async fn final_state_does_not_depend_on_the_pace() {
    for seed in 0..12 {
        let world = World::seeded(seed, Pace { longest: Duration::from_secs(4), seed });
        world.add_node("n", "20");
        world.run_kubelet();
        world.create(workload("Deployment", 5, json!({})));
        for number in 2..5 {
            world.after(seed + number).await;
            world.change(&apps("deployments"), "a", |deployment| {
                deployment["spec"]["template"] = template(&format!("x:{number}"), &[]);
                deployment["spec"]["replicas"] = (number + 1).into();
            });
        }
        world.after(600).await;
        let status = &world.get(&apps("deployments"), "a").unwrap()["status"];
        for count in ["replicas", "updatedReplicas", "availableReplicas"] {
            assert_eq!(status[count], 5, "seed {seed}: {status}");
        }
        assert!(world.pods().iter().all(|pod| pod["spec"]["containers"][0]["image"] == "x:4"), "seed {seed}");
        // Wait until the last event has expired.
        world.after(2 * 3600).await;
        let quiet = world.server.store().revision();
        world.after(3600).await;
        assert_eq!(world.server.store().revision(), quiet, "seed {seed}: nothing is written when nothing happens");
        world.end().await;
    }
}
