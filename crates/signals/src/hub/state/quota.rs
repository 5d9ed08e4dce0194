//! Limits for each namespace and for the process: on clusters, and on the memory of samples.

use super::{ClusterKey, MemoryUse, State};
use crate::limits::{FREE_BYTES_PER_JOB, Limits};
use crate::sample::{Category, JobKey};

impl State {
    /// Returns an error if this cluster would be one too many for the namespace or the process.
    pub(super) fn check_cluster_limits(&self, job: &JobKey, key: &ClusterKey) -> Result<(), String> {
        let Limits { clusters, clusters_per_namespace, .. } = self.limits;
        let namespace = self.namespaces.get(&job.namespace);
        if namespace.is_some_and(|namespace| namespace.clusters.contains_key(key)) {
            return Ok(());
        }
        if namespace.is_some_and(|namespace| namespace.clusters.len() >= clusters_per_namespace) {
            return Err(format!(
                "namespace {} already reads from {clusters_per_namespace} Kafka clusters, the limit of a namespace; write the bootstrap servers of a cluster the same way in each job, or delete a job",
                job.namespace
            ));
        }
        if !self.clusters.contains_key(key) && self.clusters.len() >= clusters {
            return Err(format!(
                "the operator already reads from {clusters} Kafka clusters, its limit; ask Sluice's administrator for more open files (ulimit -n)"
            ));
        }
        Ok(())
    }

    /// Records that all samples of a job now take `now` bytes in place of `before`.
    pub(super) fn record_memory(&mut self, namespace: &str, before: usize, now: usize) {
        let known = self.namespaces.entry(namespace.to_owned()).or_default();
        for kept in [&mut self.kept, &mut known.kept] {
            kept.bytes = (kept.bytes + now).saturating_sub(before);
            kept.beyond_free = (kept.beyond_free + beyond_free(now)).saturating_sub(beyond_free(before));
        }
        if known.kept.bytes == 0 && known.clusters.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Reserves memory for a sample that replaces another one, both in bytes; returns an error if there is too little.
    pub(super) fn reserve_memory(&mut self, job: &JobKey, before: usize, now: usize) -> Result<(), (Category, String)> {
        let Some(own) = self.jobs.get_mut(job) else { return Ok(()) };
        let kept_before = own.kept_bytes;
        let kept = (kept_before + now).saturating_sub(before);
        if now > before && kept > FREE_BYTES_PER_JOB {
            let after = |sum: MemoryUse| (sum.beyond_free + beyond_free(kept)).saturating_sub(beyond_free(kept_before));
            let of_namespace =
                self.namespaces.get(&job.namespace).map_or_else(MemoryUse::default, |namespace| namespace.kept);
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
                    "failed to store the sample: with {} MiB of this job, {whose} would exceed the {} MiB that they may use beyond {} MiB each; read from fewer partitions, or ask Sluice's administrator for more memory (--source-memory)",
                    kept >> 20,
                    most >> 20,
                    FREE_BYTES_PER_JOB >> 20
                );
                return Err((Category::LimitExceeded, message));
            }
        }
        own.kept_bytes = kept;
        self.record_memory(&job.namespace, kept_before, kept);
        Ok(())
    }
}

/// Returns the part of a job's memory that counts: each job has some memory regardless of the others.
fn beyond_free(bytes: usize) -> usize {
    bytes.saturating_sub(FREE_BYTES_PER_JOB)
}
