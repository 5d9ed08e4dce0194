//! Whether a topic's timestamps come from the producers. With `message.timestamp.type=CreateTime`, which is Kafka's
//! default, they do: a record that was created an hour ago and appended now has a timestamp of an hour ago, and a
//! producer's clock may be wrong. Then a look-up by timestamp does not show what was appended when. Where the type is
//! unknown, nothing is looked up by timestamp either.

use std::collections::HashMap;
use std::time::Duration;

use krafka::admin::{AdminClient, ConfigResource, DescribeConfigsOptions, TopicDescription};
use tokio::time::Instant;

use super::round::Reply;

const KEY: &str = "message.timestamp.type";

/// How long an answer about a topic's configuration is valid.
const VALID_FOR: Duration = Duration::from_mins(10);

/// How long after a request without an answer the next one is sent. (It requires `DescribeConfigs` on the topic, which
/// nothing else does.)
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// What is known, by topic. It is kept from round to round.
pub(super) type TimestampTypes = HashMap<String, TimestampType>;

/// What is known about one topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimestampType {
    /// Id of the topic: a topic that was deleted and created again has another one.
    pub(super) id: [u8; 16],
    /// Whether the timestamps are the producers'; `None` if that was never answered.
    pub(super) set_by_producers: Option<bool>,
    /// When the next request is due. An answer is used until there is another one.
    pub(super) refresh_at: Instant,
}

/// Returns whether the topic's timestamps are the producers'; `None` if that is unknown.
pub(super) fn set_by_producers(known: &TimestampTypes, topic: &TopicDescription) -> Option<bool> {
    let known = known.get(&topic.name).filter(|known| known.id == topic.topic_id)?;
    known.set_by_producers
}

/// Requests what is unknown or was answered long ago, in one request. Topics that are no longer read are forgotten.
pub(super) async fn refresh(
    client: &AdminClient,
    topics: &HashMap<String, Reply<TopicDescription>>,
    known: &TimestampTypes,
    now: Instant,
    timeout: Duration,
) -> TimestampTypes {
    let mut types = TimestampTypes::new();
    let mut open = Vec::new();
    for (name, reply) in topics {
        match (reply, known.get(name)) {
            (Ok(topic), Some(same)) if same.id == topic.topic_id && now < same.refresh_at => {
                types.insert(name.clone(), *same);
            }
            (Ok(topic), _) => open.push(topic),
            // A lost answer about the topic does not make it another topic.
            (Err(_), Some(same)) => _ = types.insert(name.clone(), *same),
            (Err(_), None) => {}
        }
    }
    if open.is_empty() {
        return types;
    }
    let resources = open.iter().map(|topic| ConfigResource::topic(&topic.name));
    let options = DescribeConfigsOptions::default().config_names(vec![KEY.to_owned()]).timeout(timeout);
    let answers = client.describe_configs(resources, options).await.unwrap_or_default();
    for topic in open {
        let entries = answers.get(&ConfigResource::topic(&topic.name)).and_then(|reply| reply.as_ref().ok());
        let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.name == KEY));
        let answered = entry.and_then(|entry| entry.value.as_deref()).map(|value| value == "CreateTime");
        types.insert(topic.name.clone(), updated(topic, answered, known, now));
    }
    types
}

/// Returns what is known about a topic after a request. Without an answer, the previous knowledge about the same topic
/// remains.
fn updated(topic: &TopicDescription, answered: Option<bool>, known: &TimestampTypes, now: Instant) -> TimestampType {
    let valid_for = if answered.is_some() { VALID_FOR } else { RETRY_AFTER };
    TimestampType {
        id: topic.topic_id,
        set_by_producers: answered.or_else(|| set_by_producers(known, topic)),
        refresh_at: now + valid_for,
    }
}
