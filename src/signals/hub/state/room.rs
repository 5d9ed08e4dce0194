//! What a namespace and all together may have: clusters, and what is kept of samples.

use super::{ClusterKey, Namespace, State};
use crate::signals::limits::{FREE_FOR_A_JOB, Limits};
use crate::signals::sample::{Category, JobKey};

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

    /// Notes that a job's samples take other room than before, in bytes.
    pub(super) fn account(&mut self, namespace: &str, before: usize, now: usize) {
        let moved = |sum: &mut usize| *sum = (*sum + now).saturating_sub(before);
        moved(&mut self.kept_bytes);
        match self.namespaces.get_mut(namespace) {
            Some(known) => moved(&mut known.kept_bytes),
            None if now > 0 => {
                let known = Namespace { kept_bytes: now, ..Namespace::default() };
                self.namespaces.insert(namespace.to_owned(), known);
            }
            None => {}
        }
        self.namespaces.retain(|name, known| name != namespace || known.kept_bytes > 0 || !known.clusters.is_empty());
    }

    /// Makes room for a sample in place of another, by their bytes; an error if there is too little.
    pub(super) fn make_room(&mut self, job: &JobKey, before: usize, now: usize) -> Result<(), (Category, String)> {
        let Some(own) = self.jobs.get_mut(job) else { return Ok(()) };
        let after = |sum: usize| (sum + now).saturating_sub(before);
        let kept = after(own.kept_bytes);
        if now > before && kept > FREE_FOR_A_JOB {
            let of_namespace = self.namespaces.get(&job.namespace).map_or(0, |namespace| namespace.kept_bytes);
            let Limits { kept_bytes_per_namespace, kept_bytes, .. } = self.limits;
            let whose = if after(of_namespace) > kept_bytes_per_namespace {
                Some((format!("all jobs of namespace {}", job.namespace), kept_bytes_per_namespace))
            } else if after(self.kept_bytes) > kept_bytes {
                Some(("all jobs".to_owned(), kept_bytes))
            } else {
                None
            };
            if let Some((whose, most)) = whose {
                let message = format!(
                    "failed to keep what was read: {} MiB of this job would make more than the {} MiB that {whose} may take together; read from fewer partitions, or ask the administrator of Sluice for more memory (--source-memory)",
                    kept >> 20,
                    most >> 20
                );
                return Err((Category::LimitExceeded, message));
            }
        }
        own.kept_bytes = kept;
        self.account(&job.namespace, before, now);
        Ok(())
    }
}
