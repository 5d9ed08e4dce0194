//! The demo's own topic: creates it, counts its records and deletes it.

use std::collections::BTreeMap;
use std::time::Duration;

use krafka::Kafka;
use krafka::admin::{AdminClient, NewTopic, OffsetSpec, TopicPartition};
use tokio::time::timeout;

use super::Failure;

/// Timeout of each request to the brokers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A topic with a name that is unique to this run.
pub(super) struct Topic {
    name: String,
    partitions: i32,
    admin: AdminClient,
}

impl Topic {
    /// Creates the topic.
    pub(super) async fn create(brokers: &str, name: &str, partitions: i32) -> Result<Self, Failure> {
        let failed = |detail: String| format!("failed to create the topic {name} at {brokers}: {detail}");
        let connect = Kafka::builder(brokers).client_id("sluice-demo").connect();
        let kafka = timeout(REQUEST_TIMEOUT, connect)
            .await
            .map_err(|_| failed(format!("no response within {REQUEST_TIMEOUT:?}")))?
            .map_err(|error| failed(error.to_string()))?;
        let admin = kafka.admin();
        // -1 selects the brokers' default replication factor.
        let topic = NewTopic::new(name, partitions, -1).map_err(|error| failed(error.to_string()))?;
        // Append times come from the brokers' clock; producer timestamps would come from several clocks.
        let topic = topic.with_config("message.timestamp.type", "LogAppendTime");
        let results =
            timeout(REQUEST_TIMEOUT, admin.create_topics([topic], krafka::admin::CreateTopicsOptions::default()))
                .await
                .map_err(|_| failed(format!("no response within {REQUEST_TIMEOUT:?}")))?
                .map_err(|error| failed(error.to_string()))?;
        for result in results.into_values() {
            result.map_err(|error| failed(error.to_string()))?;
        }
        Ok(Self { name: name.to_owned(), partitions, admin })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of records in the topic. The demo created the topic, so it started empty.
    pub(super) async fn records(&self) -> Result<u64, Failure> {
        Ok(self.ends().await?.into_values().sum())
    }

    /// Returns the number of records that the group has not committed.
    pub(super) async fn uncommitted(&self, group: &str) -> Result<u64, Failure> {
        let failed = |detail: String| format!("failed to read the commits of the group {group}: {detail}");
        let options = krafka::admin::ListConsumerGroupOffsetsOptions::default();
        let commits = timeout(REQUEST_TIMEOUT, self.admin.list_consumer_group_offsets(group, options))
            .await
            .map_err(|_| failed(format!("no response within {REQUEST_TIMEOUT:?}")))?
            .map_err(|error| failed(error.to_string()))?;
        let mut left = self.ends().await?;
        for (at, commit) in commits.into_iter().filter(|(at, _)| at.topic == self.name) {
            let committed = commit.map_err(|error| failed(error.to_string()))?.offset.unwrap_or(0);
            if let Some(end) = left.get_mut(&at.partition) {
                *end = end.saturating_sub(u64::try_from(committed).unwrap_or(0));
            }
        }
        Ok(left.into_values().sum())
    }

    async fn ends(&self) -> Result<BTreeMap<i32, u64>, Failure> {
        let partitions =
            (0..self.partitions).map(|partition| (TopicPartition::new(&*self.name, partition), OffsetSpec::Latest));
        let offsets =
            timeout(REQUEST_TIMEOUT, self.admin.list_offsets(partitions, krafka::admin::ListOffsetsOptions::default()))
                .await
                .map_err(|_| {
                    format!("failed to count the records of {}: no response within {REQUEST_TIMEOUT:?}", self.name)
                })?
                .map_err(|error| format!("failed to count the records of {}: {error}", self.name))?;
        let mut ends = BTreeMap::new();
        for (partition, offset) in offsets {
            let offset = offset.map_err(|error| {
                format!("failed to count the records of {}, partition {}: {error}", self.name, partition.partition)
            })?;
            ends.insert(partition.partition, u64::try_from(offset.offset).unwrap_or(0));
        }
        Ok(ends)
    }

    /// Deletes the topic.
    pub(super) async fn delete(self) -> Result<(), Failure> {
        let options = krafka::admin::DeleteTopicsOptions::default();
        let results = timeout(REQUEST_TIMEOUT, self.admin.delete_topics([self.name.as_str()], options))
            .await
            .map_err(|_| format!("failed to delete the topic {}: no response within {REQUEST_TIMEOUT:?}", self.name))?
            .map_err(|error| format!("failed to delete the topic {}: {error}", self.name))?;
        for result in results.into_values() {
            result.map_err(|error| format!("failed to delete the topic {}: {error}", self.name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_topic_is_created_counted_and_deleted() {
        let broker = krafka::testing::FakeBroker::start().await.unwrap();
        let topic = Topic::create(&broker.bootstrap_servers(), "orders-1", 3).await.unwrap();
        assert_eq!(topic.records().await.unwrap(), 0);

        let kafka = Kafka::builder(broker.bootstrap_servers()).connect().await.unwrap();
        let producer = kafka.producer().build().await.unwrap();
        for (partition, record) in [(0, "a"), (2, "b"), (2, "c")] {
            let _ = producer.send(krafka::Record::new("orders-1", record).partition(partition)).await.unwrap();
        }
        assert_eq!(topic.records().await.unwrap(), 3);
        assert_eq!(topic.uncommitted("enricher").await.unwrap(), 3, "no commit yet, so every record is uncommitted");

        topic.delete().await.unwrap();
        let again = Topic::create(&broker.bootstrap_servers(), "orders-1", 1).await;
        assert!(again.is_ok(), "the name is free again");
    }

    #[tokio::test]
    async fn an_unreachable_broker_is_named_in_the_error() {
        // Nothing listens on port 1.
        let error = Topic::create("127.0.0.1:1", "orders", 1).await.err().unwrap().to_string();
        assert!(error.starts_with("failed to create the topic orders at 127.0.0.1:1: "), "{error}");
    }
}
