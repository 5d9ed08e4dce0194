//! Which StreamJobs name the same workload, and which read the same topic in the same consumer group. Fed from the watch.
//!
//! Two jobs that scale one workload would undo each other's writes for ever. So one of them has it: the oldest that names it in
//! targetRef, unless a StreamJob runs it, which its controller says and not this index; the others leave it alone, and all are
//! told. A job that could not act, for its spec is not valid, has nothing. A consumer group that several jobs read from is told as
//! well, but nobody is stopped: each sizes for all records, and the group has the workers of all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::{Resource as _, ResourceExt as _};

use sluice_api::StreamJob;
use sluice_api::v1alpha1::Mode;
use sluice_signals::JobKey;

use crate::validate;

/// What several jobs may name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Claim {
    Workload { namespace: String, group: String, kind: String, name: String },
    ConsumerGroup { servers: Vec<String>, topic: String, group: String },
}

/// What one job names.
#[derive(Debug, Clone)]
struct Claimant {
    /// It is to run the workload itself. Whether it does, the controller of the workload says.
    runs_it: bool,
    created: Option<Timestamp>,
    uid: String,
    generation: Option<i64>,
    claims: Vec<Claim>,
}

/// What all jobs name. Cheap to clone; all clones see the same.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<Index>>);

#[derive(Default)]
struct Index {
    by_job: HashMap<JobKey, Claimant>,
    by_claim: HashMap<Claim, BTreeSet<JobKey>>,
}

/// Who else names what a job names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rivals {
    /// The job that has the workload instead of this one.
    pub(crate) has_workload: Option<JobKey>,
    /// Jobs that name the workload, and do not have it.
    pub(crate) want_workload: Vec<JobKey>,
    /// Jobs that read one of its topics in the same consumer group, and that group.
    pub(crate) share_group: Option<(String, Vec<JobKey>)>,
}

impl Claims {
    /// The rivals of a job. Complete only after the watch has listed all jobs.
    pub(crate) fn rivals(&self, job: &JobKey) -> Rivals {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rivals = Rivals::default();
        let Some(claimant) = index.by_job.get(job) else { return rivals };
        for claim in &claimant.claims {
            let others = || index.by_claim.get(claim).into_iter().flatten().filter(|other| *other != job);
            match claim {
                Claim::Workload { .. } => {
                    let has_it = index.by_claim.get(claim).and_then(|all| index.first(all));
                    match has_it.filter(|first| !claimant.runs_it && *first != job) {
                        Some(first) => rivals.has_workload = Some(first.clone()),
                        None => rivals.want_workload.extend(others().filter(|other| !index.runs_it(other)).cloned()),
                    }
                }
                Claim::ConsumerGroup { group, .. } if rivals.share_group.is_none() => {
                    let sharers: Vec<JobKey> = others().cloned().collect();
                    rivals.share_group = (!sharers.is_empty()).then(|| (group.clone(), sharers));
                }
                Claim::ConsumerGroup { .. } => {}
            }
        }
        rivals
    }
}

impl Index {
    /// Who has a workload that these jobs name in targetRef.
    fn first<'a>(&self, jobs: &'a BTreeSet<JobKey>) -> Option<&'a JobKey> {
        let rank = |job: &JobKey| self.by_job.get(job).map(|claimant| (claimant.created, claimant.uid.clone()));
        jobs.iter().filter(|job| !self.runs_it(job)).min_by_key(|job| rank(job))
    }

    fn runs_it(&self, job: &JobKey) -> bool {
        self.by_job.get(job).is_some_and(|claimant| claimant.runs_it)
    }

    fn put(&mut self, key: JobKey, claimant: Claimant) {
        self.remove(&key);
        for claim in &claimant.claims {
            self.by_claim.entry(claim.clone()).or_default().insert(key.clone());
        }
        self.by_job.insert(key, claimant);
    }

    fn remove(&mut self, key: &JobKey) {
        let Some(claimant) = self.by_job.remove(key) else { return };
        for claim in claimant.claims {
            let Some(jobs) = self.by_claim.get_mut(&claim) else { continue };
            jobs.remove(key);
            if jobs.is_empty() {
                self.by_claim.remove(&claim);
            }
        }
    }
}

/// Feeds [`Claims`] from the watch of one scope.
pub(crate) struct ClaimsWriter {
    claims: Claims,
    /// The jobs of a new beginning of the watch; those of the scope that are not among them are gone.
    listed: HashSet<JobKey>,
}

impl ClaimsWriter {
    pub(crate) fn new(claims: Claims) -> Self {
        Self { claims, listed: HashSet::new() }
    }

    /// Takes over what the watch says. `covers`: the jobs that it is about.
    pub(crate) fn take(&mut self, event: &Event<DeserializeGuard<StreamJob>>, covers: impl Fn(&JobKey) -> bool) {
        let mut index = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                let key = key_of(object);
                self.listed.insert(key.clone());
                // A new status is no new spec.
                let known = |job: &StreamJob| index.by_job.get(&key).is_some_and(|claimant| claimant.is_of(job));
                let able = |job: &&StreamJob| {
                    job.metadata.deletion_timestamp.is_none() && (known(job) || validate::validate(job).is_ok())
                };
                match object.0.as_ref().ok().filter(able) {
                    Some(job) => index.put(key, claimant(job)),
                    None => index.remove(&key),
                }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<JobKey> =
                    index.by_job.keys().filter(|key| covers(key) && !listed.contains(key)).cloned().collect();
                for key in gone {
                    index.remove(&key);
                }
            }
            Event::Delete(object) => index.remove(&key_of(object)),
        }
    }
}

fn key_of(object: &DeserializeGuard<StreamJob>) -> JobKey {
    let meta = object.meta();
    JobKey { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

fn claimant(job: &StreamJob) -> Claimant {
    let spec = &job.spec;
    let namespace = job.namespace().unwrap_or_default();
    let mut claims = Vec::new();
    let workload = |group: &str, kind: String, name: String| Claim::Workload {
        namespace: namespace.clone(),
        group: group.to_owned(),
        kind,
        name,
    };
    let recommends = spec.scaling.as_ref().is_some_and(|scaling| scaling.mode == Mode::Recommend);
    if let Some(own) = &spec.workload {
        let kind = crate::apply::build::workload_resource(own.kind).kind;
        claims.push(workload("apps", kind, job.name_any()));
    } else if let Some(target) = spec.target_ref.as_ref().filter(|_| !recommends) {
        // Versions of a group are views of one object. A job that only recommends writes nothing, and is nobody's rival.
        let group = target.api_version.split_once('/').map_or("", |(group, _)| group);
        claims.push(workload(group, target.kind.clone(), target.name.clone()));
    }
    for kafka in spec.sources.iter().filter_map(|source| source.kafka.as_ref()) {
        // A name without a dot is another broker in another namespace.
        let of_namespace = |server: &String| {
            let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host);
            if host.contains(['.', ':']) { server.clone() } else { format!("{namespace}/{server}") }
        };
        let mut servers: Vec<String> = kafka.bootstrap_servers.iter().map(of_namespace).collect();
        servers.sort_unstable();
        servers.dedup();
        let (topic, group) = (kafka.topic.clone(), kafka.consumer_group.clone());
        claims.push(Claim::ConsumerGroup { servers, topic, group });
    }
    Claimant {
        runs_it: spec.workload.is_some(),
        created: job.creation_timestamp().map(|time| time.0),
        uid: job.uid().unwrap_or_default(),
        generation: job.metadata.generation,
        claims,
    }
}

impl Claimant {
    /// Whether this is what the job names, by the generation of its spec.
    fn is_of(&self, job: &StreamJob) -> bool {
        self.generation.is_some()
            && self.generation == job.metadata.generation
            && job.metadata.uid.as_ref() == Some(&self.uid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(name: &str, minute: u32, target: &Value, group: &str) -> DeserializeGuard<StreamJob> {
        let kafka = json!({"bootstrapServers": ["kafka:9092"], "topic": "orders", "consumerGroup": group});
        let mut spec =
            json!({"objective": {"latency": "10s"}, "maxReplicas": 9, "sources": [{"name": "s", "kafka": kafka}]});
        match target.as_str() {
            Some(target) => spec["targetRef"] = json!({"kind": "Deployment", "name": target}),
            None => spec["workload"] = json!({"template": {"spec": {"containers": [{"name": "app", "image": "i"}]}}}),
        }
        let created = format!("2026-01-01T00:{minute:02}:00Z");
        let metadata = json!({"name": name, "namespace": "team", "uid": name, "creationTimestamp": created});
        let object =
            json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamJob", "metadata": metadata, "spec": spec});
        DeserializeGuard(Ok(serde_json::from_value(object).unwrap()))
    }

    fn key(name: &str) -> JobKey {
        JobKey { namespace: "team".to_owned(), name: name.to_owned() }
    }

    fn claims(jobs: Vec<DeserializeGuard<StreamJob>>) -> (Claims, ClaimsWriter) {
        let claims = Claims::default();
        let mut writer = ClaimsWriter::new(claims.clone());
        for job in jobs {
            writer.take(&Event::Apply(job), |_| true);
        }
        (claims, writer)
    }

    #[test]
    fn the_oldest_of_the_jobs_that_name_a_workload_has_it_and_the_others_know() {
        let jobs = vec![
            job("b", 2, &json!("shared"), "g1"),
            job("a", 5, &json!("shared"), "g2"),
            job("c", 9, &json!("else"), "g3"),
        ];
        let (claims, mut writer) = claims(jobs);
        assert_eq!(claims.rivals(&key("b")), Rivals { want_workload: vec![key("a")], ..Rivals::default() });
        assert_eq!(claims.rivals(&key("a")), Rivals { has_workload: Some(key("b")), ..Rivals::default() });
        assert_eq!(claims.rivals(&key("c")), Rivals::default());
        writer.take(&Event::Delete(job("b", 2, &json!("shared"), "g1")), |_| true);
        assert_eq!(claims.rivals(&key("a")), Rivals::default(), "it is free again");
    }

    /// A job that is named like a Deployment and cannot run it, for it is somebody else's, took it from who scales it.
    #[test]
    fn a_job_that_would_run_a_workload_of_the_name_takes_it_from_nobody_by_that() {
        let (claims, _) = claims(vec![job("old", 1, &json!("orders"), "g1"), job("orders", 8, &Value::Null, "g2")]);
        assert_eq!(claims.rivals(&key("old")), Rivals::default());
        assert_eq!(claims.rivals(&key("orders")).want_workload, [key("old")]);
    }

    #[test]
    fn a_job_whose_spec_is_not_valid_keeps_no_other_from_a_workload() {
        let mut broken = job("a", 1, &json!("shared"), "g1");
        broken.0.as_mut().unwrap().spec.sources[0].kafka.as_mut().unwrap().bootstrap_servers =
            vec!["kafka:99999".to_owned()];
        let (claims, _) = claims(vec![broken, job("b", 2, &json!("shared"), "g2")]);
        assert_eq!(claims.rivals(&key("b")), Rivals::default());
    }

    #[test]
    fn a_job_that_only_recommends_or_is_going_is_nobodys_rival() {
        let mut recommends = job("a", 1, &json!("shared"), "g1");
        let mut going = job("b", 2, &json!("shared"), "g2");
        let scaling = json!({"mode": "Recommend"});
        recommends.0.as_mut().unwrap().spec.scaling = Some(serde_json::from_value(scaling).unwrap());
        going.0.as_mut().unwrap().metadata.deletion_timestamp = going.0.as_ref().unwrap().creation_timestamp();
        let (claims, _) = claims(vec![recommends, going, job("c", 3, &json!("shared"), "g3")]);
        assert_eq!(claims.rivals(&key("c")), Rivals::default());
    }

    #[test]
    fn jobs_of_one_consumer_group_know_of_each_other_and_a_short_name_is_another_broker_elsewhere() {
        let mut elsewhere = job("c", 3, &json!("w3"), "g");
        elsewhere.0.as_mut().unwrap().metadata.namespace = Some("other".to_owned());
        let (claims, _) = claims(vec![job("a", 1, &json!("w1"), "g"), job("b", 2, &json!("w2"), "g"), elsewhere]);
        assert_eq!(claims.rivals(&key("a")).share_group, Some(("g".to_owned(), vec![key("b")])));
    }

    #[test]
    fn what_a_new_list_does_not_have_is_gone() {
        let (claims, mut writer) = claims(vec![job("a", 1, &json!("w"), "g"), job("b", 2, &json!("w"), "h")]);
        writer.take(&Event::Init, |_| true);
        writer.take(&Event::InitApply(job("b", 2, &json!("w"), "h")), |_| true);
        assert_eq!(claims.rivals(&key("b")).has_workload, Some(key("a")), "half a list proves nothing");
        writer.take(&Event::InitDone, |key| key.namespace == "elsewhere");
        assert_eq!(claims.rivals(&key("b")).has_workload, Some(key("a")), "it is about others");
        writer.take(&Event::Init, |_| true);
        writer.take(&Event::InitApply(job("b", 2, &json!("w"), "h")), |_| true);
        writer.take(&Event::InitDone, |_| true);
        assert_eq!(claims.rivals(&key("b")), Rivals::default());
    }
}
