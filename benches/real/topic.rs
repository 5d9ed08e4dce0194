//! The topic of one cell.

use std::sync::Arc;
use std::time::Duration;

use krafka::Kafka;
use krafka::admin::{
    AdminClient, ConfigOp, ConfigResource, CreateTopicsOptions, DeleteTopicsOptions, IncrementalAlterConfigsOptions,
    NewTopic,
};
use sluice_base::clock::Clock;
use sluice_signals::source::GroupTopic;
use sluice_signals::{Cluster, Connect as _, Egress, KafkaConnect, SourceSample};

use super::Failure;
use super::cells::PARTITIONS;

/// Timeout of each request to the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Heartbeat interval of groups under KIP-848. With the broker's default of 5 s, a partition that moves stops for up to
/// 5 s.
const HEARTBEAT: (&str, &str) = ("consumer.heartbeat.interval.ms", "1000");

/// A topic and its consumer group.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) group: String,
    admin: AdminClient,
    broker: Arc<dyn Cluster>,
}

/// The state of the topic and its group in the broker.
pub(crate) struct GroupProgress {
    /// Records in the topic.
    pub(crate) produced: u64,
    /// Records that the group has not committed.
    pub(crate) uncommitted: u64,
    /// Members that own partitions.
    pub(crate) owners: usize,
    /// Whether each partition has an owner.
    pub(crate) owned: bool,
}

impl Topic {
    /// Creates the topic with timestamps of the broker's clock, and configures its group.
    pub(crate) async fn create(brokers: &str, name: &str) -> Result<Self, Failure> {
        let kafka = tokio::time::timeout(REQUEST_TIMEOUT, Kafka::builder(brokers).client_id("sluice-bench").connect())
            .await??;
        let admin = kafka.admin();
        let topic = NewTopic::new(name, i32::try_from(PARTITIONS)?, -1)?;
        let topic = topic.with_config("message.timestamp.type", "LogAppendTime");
        let created =
            tokio::time::timeout(REQUEST_TIMEOUT, admin.create_topics([topic], CreateTopicsOptions::default()));
        for outcome in created.await??.into_values() {
            outcome.map_err(|error| format!("failed to create the topic {name}: {error}"))?;
        }
        let group = format!("{name}-workers");
        let change = (ConfigResource::group(&group), vec![ConfigOp::set(HEARTBEAT.0, HEARTBEAT.1)]);
        let changed = admin.incremental_alter_configs([change], IncrementalAlterConfigsOptions::default());
        for outcome in tokio::time::timeout(REQUEST_TIMEOUT, changed).await??.into_values() {
            outcome.map_err(|error| {
                format!("failed to set {} of the group: {error}; the broker must allow 1 s", HEARTBEAT.0)
            })?;
        }
        let connect = KafkaConnect::new(Clock::system(), Egress::allow_loopback());
        let brokers: Vec<String> = brokers.split(',').map(|broker| broker.trim().to_owned()).collect();
        let broker = connect.connect(&brokers);
        Ok(Self { name: name.to_owned(), group, admin, broker })
    }

    /// Requests the state from the broker.
    pub(crate) async fn progress(&self) -> Result<GroupProgress, Failure> {
        let (topic, group) = (self.name.clone(), self.group.clone());
        let request = [GroupTopic { topic, group, latency: Duration::from_secs(10) }];
        let mut samples = tokio::time::timeout(REQUEST_TIMEOUT, self.broker.sample(&request, REQUEST_TIMEOUT)).await?;
        let sample = samples.pop().ok_or("the broker returned no sample")??;
        group_progress(&sample).ok_or_else(|| format!("the broker did not report all offsets of {}", self.name).into())
    }

    pub(crate) async fn delete(self) -> Result<(), Failure> {
        let deleted = self.admin.delete_topics([self.name.as_str()], DeleteTopicsOptions::default());
        for outcome in tokio::time::timeout(REQUEST_TIMEOUT, deleted).await??.into_values() {
            outcome.map_err(|error| format!("failed to delete the topic {}: {error}", self.name))?;
        }
        Ok(())
    }
}

fn group_progress(sample: &SourceSample) -> Option<GroupProgress> {
    let (mut produced, mut committed) = (0, 0);
    for partition in &sample.partitions {
        produced += u64::try_from(partition.end?).ok()?;
        committed += u64::try_from(partition.committed?.max(0)).ok()?;
    }
    let mut owners: Vec<&str> =
        sample.partitions.iter().filter_map(|p| p.owner.as_ref()).map(|owner| owner.client_id.as_str()).collect();
    let owned = owners.len() == sample.partitions.len();
    owners.sort_unstable();
    owners.dedup();
    Some(GroupProgress { produced, uncommitted: produced.saturating_sub(committed), owners: owners.len(), owned })
}
