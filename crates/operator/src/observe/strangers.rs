//! Remembers members of a job's consumer groups that are not workers of the job. Pure.
//!
//! A member stays in its group after its pod is gone (for `session.timeout.ms`, 45 s by default), so only members that
//! have been strangers for 5 minutes are reported.

use std::collections::HashMap;

use sluice_base::units::Seconds;
use sluice_signals::{JobSamples, Owner};

use crate::observe::live::PodFacts;
use crate::observe::members::{Members, PodIndex};
use crate::validate::Job;

/// Time after which an unmatched member is reported as a stranger.
const REPORTED_AFTER: Seconds = Seconds(300.0);

/// Time for which a member that is not observed, as during a rebalance, still counts as present.
const FORGOTTEN_AFTER: Seconds = Seconds(60.0);

/// Maximum number of strangers that are remembered for a job.
const REMEMBERED: usize = 64;
/// Maximum number of strangers that a message names.
const NAMED: usize = 3;

/// Maximum length of a client id in a message, in characters.
const LONGEST_NAME: usize = 60;

/// The strangers in the groups of a job, by their member ids.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    members: HashMap<String, Stranger>,
    /// A stranger has been observed in this run of the operator.
    has_observed: bool,
}

#[derive(Debug)]
struct Stranger {
    since: Seconds,
    seen: Seconds,
    group: String,
    /// Client id and address of the member.
    name: String,
}

impl Strangers {
    /// Takes in an observation of the groups, and returns a message about strangers if there are any. `were_reported`:
    /// the status reports strangers already, so that after a restart they are reported without delay.
    pub(crate) fn observe(
        &mut self,
        job: &Job,
        pods: &[PodFacts],
        samples: &JobSamples,
        were_reported: bool,
        now: Seconds,
    ) -> Option<String> {
        let pod_index = PodIndex::new(pods);
        let since = if were_reported && !self.has_observed { now - REPORTED_AFTER } else { now };
        for spec in &job.sources {
            let reading = samples.sources.iter().find(|reading| reading.name == spec.name);
            let Some(sample) = reading.and_then(|reading| reading.sample.as_deref()) else { continue };
            for (id, member) in Members::new(sample, &pod_index).strangers {
                self.has_observed = true;
                if let Some(known) = self.members.get_mut(id) {
                    known.seen = now;
                } else if self.members.len() < REMEMBERED {
                    let group = spec.kafka.consumer_group.clone();
                    let stranger = Stranger { since, seen: now, group, name: name(member) };
                    self.members.insert(id.to_owned(), stranger);
                }
            }
        }
        self.forget(now);
        self.message(now)
    }

    /// Takes in that there is no stranger now.
    pub(crate) fn observe_none(&mut self, now: Seconds) -> Option<String> {
        self.forget(now);
        self.message(now)
    }

    fn forget(&mut self, now: Seconds) {
        self.members.retain(|_, stranger| now - stranger.seen <= FORGOTTEN_AFTER);
    }

    fn message(&self, now: Seconds) -> Option<String> {
        let mut staying: Vec<&Stranger> =
            self.members.values().filter(|stranger| now - stranger.since >= REPORTED_AFTER).collect();
        staying.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
        let group = &staying.first()?.group;
        let names: Vec<&str> =
            staying.iter().filter(|stranger| stranger.group == *group).map(|stranger| stranger.name.as_str()).collect();
        let listed = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = match names.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let least = if self.members.len() >= REMEMBERED { "at least " } else { "" };
        let subject = match names.len() {
            1 => format!("1 member of consumer group {group} is not a pod of this job ({listed}): it takes"),
            several => format!(
                "{least}{several} members of consumer group {group} are not pods of this job ({listed}{more}): they take"
            ),
        };
        Some(format!("{subject} partitions from the workers, but Sluice sizes the job for all records"))
    }
}

/// Returns a member's client id and address as one line of text.
fn name(member: &Owner) -> String {
    let clean = |text: &str| -> String {
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(LONGEST_NAME).collect()
    };
    let client = if member.client_id.is_empty() { &member.member_id } else { &member.client_id };
    match clean(&member.host) {
        host if host.is_empty() => clean(client),
        host => format!("{} at {host}", clean(client)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::validate::validate;
    use sluice_signals::{GroupSample, SourceReading, SourceSample};

    fn job() -> Job {
        let kafka = json!({"bootstrapServers": ["kafka:9092"], "topic": "orders", "consumerGroup": "g"});
        let object = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": "orders", "namespace": "team", "uid": "u"},
            "spec": {
                "objective": {"latency": "10s"}, "maxReplicas": 9, "sources": [{"name": "orders", "kafka": kafka}],
                "workload": {"template": {"spec": {"containers": [{"name": "app", "image": "i"}]}}},
            },
        });
        validate(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn group(clients: &[&str]) -> JobSamples {
        let member = |client: &&str| Owner {
            member_id: format!("{client}-id"),
            client_id: (*client).to_owned(),
            host: if client.starts_with("w-") { "10.0.0.1" } else { "10.9.9.9" }.to_owned(),
            ..Owner::default()
        };
        let group = GroupSample { members: clients.iter().map(member).collect(), ..GroupSample::default() };
        let sample = SourceSample { group: Some(group), ..SourceSample::default() };
        let source = SourceReading { name: "orders".to_owned(), sample: Some(Arc::new(sample)), failure: None };
        JobSamples { sources: vec![source], workers: Vec::new() }
    }

    fn pods() -> Vec<PodFacts> {
        vec![PodFacts { name: "w-0".to_owned(), ip: Some("10.0.0.1".to_owned()), ..PodFacts::default() }]
    }

    #[test]
    fn stranger_is_reported_after_5_minutes() {
        let mut strangers = Strangers::default();
        let mut look =
            |clients: &[&str], second: f64| strangers.observe(&job(), &pods(), &group(clients), false, Seconds(second));
        assert_eq!(look(&["w-0", "kcat"], 0.0), None);
        assert_eq!(look(&["w-0", "kcat"], 299.0), None);
        let one = "1 member of consumer group g is not a pod of this job (kcat at 10.9.9.9): it takes partitions from the workers, but Sluice sizes the job for all records";
        assert_eq!(look(&["w-0", "kcat"], 300.0).as_deref(), Some(one));
        // A rebalance hides the member for 30 s.
        assert_eq!(look(&["w-0"], 330.0).as_deref(), Some(one));
        assert_eq!(look(&["w-0"], 361.0), None);
    }

    #[test]
    fn members_of_removed_pods_are_not_strangers() {
        let mut strangers = Strangers::default();
        // Every minute another pod leaves, whose member stays in the group for 45 s.
        for minute in 0..20 {
            let lingering = format!("w-{}", minute + 1);
            let at = |second: f64| Seconds(60.0 * f64::from(minute) + second);
            for second in [0.0, 15.0, 30.0, 45.0] {
                let seen =
                    strangers.observe(&job(), &pods(), &group(&["w-0", &lingering, "x"][..2]), false, at(second));
                assert_eq!(seen, None);
            }
        }
    }

    #[test]
    fn at_most_64_strangers_are_remembered_and_3_named() {
        let mut strangers = Strangers::default();
        let names: Vec<String> = (0..200).map(|number| format!("c{number:03}\n{}", "x".repeat(500))).collect();
        let clients: Vec<&str> = ["w-0"].into_iter().chain(names.iter().map(String::as_str)).collect();
        strangers.observe(&job(), &pods(), &group(&clients), false, Seconds(0.0));
        let told = strangers.observe(&job(), &pods(), &group(&clients), false, Seconds(300.0)).unwrap();
        assert!(told.starts_with("at least 64 members of consumer group g are not pods of this job (c0"), "{told}");
        assert!(told.contains(" and 61 more)") && told.len() < 500 && !told.contains('\n'), "{told}");
    }

    #[test]
    fn reported_strangers_are_reported_at_once_after_a_restart() {
        let told = Strangers::default().observe(&job(), &pods(), &group(&["w-0", "kcat"]), true, Seconds(0.0));
        assert!(told.is_some());
        let mut strangers = Strangers::default();
        strangers.observe(&job(), &pods(), &group(&["w-0", "kcat"]), true, Seconds(0.0));
        assert!(
            !strangers
                .observe(&job(), &pods(), &group(&["w-0", "kcat", "new"]), true, Seconds(1.0))
                .unwrap()
                .contains("new")
        );
        assert_eq!(strangers.observe_none(Seconds(62.0)), None);
    }
}
