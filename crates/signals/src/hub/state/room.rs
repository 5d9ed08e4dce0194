//! What a namespace and all together may have: clusters, and what is kept of samples.

use super::{ClusterKey, Room, State};
use crate::limits::{FREE_FOR_A_JOB, Limits};
use crate::sample::{Category, JobKey};

impl State {
    /// An error if one cluster more would be too many, for the namespace or the process.
    pub(super) fn admit(&self, job: &JobKey, key: &ClusterKey) -> Result<(), String> {
        let Limits { clusters, clusters_per_namespace, .. } = self.limits;
        let namespace = self.namespaces.get(&job.namespace);
        if namespace.is_some_and(|namespace| namespace.clusters.contains_key(key)) {
            return Ok(());
        }
        if namespace.is_some_and(|namespace| namespace.clusters.len() >= clusters_per_namespace) {
            return Err(format!(
                "jobs of namespace {} read from {clusters_per_namespace} Kafka clusters already, the most of one namespace; write the bootstrap servers of one cluster in one way, or delete a job",
                job.namespace
            ));
        }
        if !self.clusters.contains_key(key) && self.clusters.len() >= clusters {
            return Err(format!(
                "the operator reads from {clusters} Kafka clusters already, the most that it may; ask its administrator for more files (ulimit -n)"
            ));
        }
        Ok(())
    }

    /// Notes that all samples of a job take other room than before, in bytes.
    pub(super) fn account(&mut self, namespace: &str, before: usize, now: usize) {
        let known = self.namespaces.entry(namespace.to_owned()).or_default();
        for kept in [&mut self.kept, &mut known.kept] {
            kept.bytes = (kept.bytes + now).saturating_sub(before);
            kept.beyond_free = (kept.beyond_free + beyond_free(now)).saturating_sub(beyond_free(before));
        }
        if known.kept.bytes == 0 && known.clusters.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Makes room for a sample in place of another, by their bytes; an error if there is too little.
    pub(super) fn make_room(&mut self, job: &JobKey, before: usize, now: usize) -> Result<(), (Category, String)> {
        let Some(own) = self.jobs.get_mut(job) else { return Ok(()) };
        let kept_before = own.kept_bytes;
        let kept = (kept_before + now).saturating_sub(before);
        if now > before && kept > FREE_FOR_A_JOB {
            let after = |sum: Room| (sum.beyond_free + beyond_free(kept)).saturating_sub(beyond_free(kept_before));
            let of_namespace =
                self.namespaces.get(&job.namespace).map_or_else(Room::default, |namespace| namespace.kept);
            let Limits { kept_bytes_per_namespace, kept_bytes, .. } = self.limits;
            let whose = if after(of_namespace) > kept_bytes_per_namespace {
                Some((format!("all jobs of namespace {}", job.namespace), kept_bytes_per_namespace))
            } else if after(self.kept) > kept_bytes {
                Some(("all jobs".to_owned(), kept_bytes))
            } else {
                None
            };
            if let Some((whose, most)) = whose {
                let message = format!(
                    "failed to keep what was read: with {} MiB of this job, {whose} would take more than the {} MiB that they may take beyond {} MiB of each; read from fewer partitions, or ask the administrator of Sluice for more memory (--source-memory)",
                    kept >> 20,
                    most >> 20,
                    FREE_FOR_A_JOB >> 20
                );
                return Err((Category::LimitExceeded, message));
            }
        }
        own.kept_bytes = kept;
        self.account(&job.namespace, kept_before, kept);
        Ok(())
    }
}

/// What of a job's samples counts: each job has some room however much the others keep.
fn beyond_free(bytes: usize) -> usize {
    bytes.saturating_sub(FREE_FOR_A_JOB)
}
