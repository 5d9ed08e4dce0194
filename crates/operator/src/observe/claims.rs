//! Finds StreamJobs that name the same workload, or that read the same topic in the same consumer group. Fed from the
//! watch.
//!
//! Two jobs that scale one workload would undo each other's writes forever. So only one of them scales it: the oldest
//! that names it in targetRef, unless a StreamJob runs the workload, which its owner reference shows and not this
//! index. The others leave it alone, and the status of each job reports the conflict. A job whose spec is not valid
//! claims nothing. Jobs that share a consumer group report it but keep scaling: each is sized for all records, and the
//! group has the workers of all jobs.

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

/// Something that several jobs may name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Claim {
    Workload { namespace: String, group: String, kind: String, name: String },
    ConsumerGroup { servers: Vec<String>, topic: String, group: String },
}

/// A job and everything that it names.
#[derive(Debug, Clone)]
struct Claimant {
    /// The job's spec asks for a workload of its own. Whether it runs one is shown by the workload's owner reference.
    runs_it: bool,
    created: Option<Timestamp>,
    uid: String,
    generation: Option<i64>,
    claims: Vec<Claim>,
}

/// The claims of all jobs. Cheap to clone; all clones share the index.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<Index>>);

#[derive(Default)]
struct Index {
    by_job: HashMap<JobKey, Claimant>,
    by_claim: HashMap<Claim, BTreeSet<JobKey>>,
}

/// Other jobs with the same claims as a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rivals {
    /// The job that scales the workload instead of this one.
    pub(crate) has_workload: Option<JobKey>,
    /// Jobs that name the workload but do not scale it.
    pub(crate) want_workload: Vec<JobKey>,
    /// A consumer group in which other jobs read one of the job's topics, and these jobs.
    pub(crate) share_group: Option<(String, Vec<JobKey>)>,
}

impl Claims {
    /// Returns the rivals of a job. Complete only after the watch has listed all jobs.
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
    /// Returns the job that scales a workload which these jobs name in targetRef.
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
    /// Jobs listed since the watch has started again. Jobs of the scope that are missing from a complete list are gone.
    listed: HashSet<JobKey>,
}

impl ClaimsWriter {
    pub(crate) fn new(claims: Claims) -> Self {
        Self { claims, listed: HashSet::new() }
    }

    /// Applies an event of the watch. `covers`: whether a job is in the scope of the watch.
    pub(crate) fn apply_event(&mut self, event: &Event<DeserializeGuard<StreamJob>>, covers: impl Fn(&JobKey) -> bool) {
        let mut index = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                let key = key_of(object);
                self.listed.insert(key.clone());
                // A changed status does not change the claims.
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
        // All versions of a group are views of one object. A job that only recommends writes nothing, so it is not a
        // rival.
        let group = target.api_version.split_once('/').map_or("", |(group, _)| group);
        claims.push(workload(group, target.kind.clone(), target.name.clone()));
    }
    for kafka in spec.sources.iter().filter_map(|source| source.kafka.as_ref()) {
        // A name without a dot is resolved in the job's namespace, so it is a different broker in each namespace.
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
    /// Returns whether these are the claims of the job, by the generation of its spec.
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
            writer.apply_event(&Event::Apply(job), |_| true);
        }
        (claims, writer)
    }

    #[test]
    fn oldest_of_the_jobs_that_name_a_workload_scales_it() {
        let jobs = vec![
            job("b", 2, &json!("shared"), "g1"),
            job("a", 5, &json!("shared"), "g2"),
            job("c", 9, &json!("else"), "g3"),
        ];
        let (claims, mut writer) = claims(jobs);
        assert_eq!(claims.rivals(&key("b")), Rivals { want_workload: vec![key("a")], ..Rivals::default() });
        assert_eq!(claims.rivals(&key("a")), Rivals { has_workload: Some(key("b")), ..Rivals::default() });
        assert_eq!(claims.rivals(&key("c")), Rivals::default());
        writer.apply_event(&Event::Delete(job("b", 2, &json!("shared"), "g1")), |_| true);
        assert_eq!(claims.rivals(&key("a")), Rivals::default(), "the workload is free again");
    }

    /// A job with the name of a Deployment that belongs to another owner took that Deployment from the job that scales
    /// it.
    #[test]
    fn job_with_an_own_workload_does_not_claim_the_target() {
        let (claims, _) = claims(vec![job("old", 1, &json!("orders"), "g1"), job("orders", 8, &Value::Null, "g2")]);
        assert_eq!(claims.rivals(&key("old")), Rivals::default());
        assert_eq!(claims.rivals(&key("orders")).want_workload, [key("old")]);
    }

    #[test]
    fn job_with_an_invalid_spec_claims_nothing() {
        let mut broken = job("a", 1, &json!("shared"), "g1");
        broken.0.as_mut().unwrap().spec.sources[0].kafka.as_mut().unwrap().bootstrap_servers =
            vec!["kafka:99999".to_owned()];
        let (claims, _) = claims(vec![broken, job("b", 2, &json!("shared"), "g2")]);
        assert_eq!(claims.rivals(&key("b")), Rivals::default());
    }

    #[test]
    fn recommending_or_terminating_job_is_not_a_rival() {
        let mut recommends = job("a", 1, &json!("shared"), "g1");
        let mut going = job("b", 2, &json!("shared"), "g2");
        let scaling = json!({"mode": "Recommend"});
        recommends.0.as_mut().unwrap().spec.scaling = Some(serde_json::from_value(scaling).unwrap());
        going.0.as_mut().unwrap().metadata.deletion_timestamp = going.0.as_ref().unwrap().creation_timestamp();
        let (claims, _) = claims(vec![recommends, going, job("c", 3, &json!("shared"), "g3")]);
        assert_eq!(claims.rivals(&key("c")), Rivals::default());
    }

    #[test]
    fn consumer_group_rivals_are_found_per_namespace_of_the_broker() {
        let mut elsewhere = job("c", 3, &json!("w3"), "g");
        elsewhere.0.as_mut().unwrap().metadata.namespace = Some("other".to_owned());
        let (claims, _) = claims(vec![job("a", 1, &json!("w1"), "g"), job("b", 2, &json!("w2"), "g"), elsewhere]);
        assert_eq!(claims.rivals(&key("a")).share_group, Some(("g".to_owned(), vec![key("b")])));
    }

    #[test]
    fn job_missing_from_a_complete_list_is_forgotten() {
        let (claims, mut writer) = claims(vec![job("a", 1, &json!("w"), "g"), job("b", 2, &json!("w"), "h")]);
        writer.apply_event(&Event::Init, |_| true);
        writer.apply_event(&Event::InitApply(job("b", 2, &json!("w"), "h")), |_| true);
        assert_eq!(claims.rivals(&key("b")).has_workload, Some(key("a")), "an incomplete list proves nothing");
        writer.apply_event(&Event::InitDone, |key| key.namespace == "elsewhere");
        assert_eq!(claims.rivals(&key("b")).has_workload, Some(key("a")), "the list is about another scope");
        writer.apply_event(&Event::Init, |_| true);
        writer.apply_event(&Event::InitApply(job("b", 2, &json!("w"), "h")), |_| true);
        writer.apply_event(&Event::InitDone, |_| true);
        assert_eq!(claims.rivals(&key("b")), Rivals::default());
    }
}
