//! Whose clock a topic's timestamps are of. With `message.timestamp.type=CreateTime`, which is Kafka's default, it is the
//! producers': a record that was made an hour ago and appended now is an hour old by its timestamp, and a producer's clock
//! may be wrong. A look-up by timestamp says nothing then of what was appended when.

use std::collections::HashMap;
use std::time::Duration;

use krafka::admin::{AdminClient, ConfigResource, DescribeConfigsOptions, TopicDescription};
use tokio::time::Instant;

use super::round::Reply;

const KEY: &str = "message.timestamp.type";

/// A topic's configuration is asked for anew after so long.
const HOLDS: Duration = Duration::from_mins(10);

/// What was not answered is asked for again after so long. (It needs `DescribeConfigs` on the topic, which the rest does not.)
const UNKNOWN_HOLDS: Duration = Duration::from_mins(1);

/// What is known, by topic. It outlives a round.
pub(super) type Stamps = HashMap<String, Stamp>;

/// What is known of one topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// Id of the topic: another topic of the name is another topic.
    pub(super) id: [u8; 16],
    /// The timestamps are the producers'; `None`: unknown, and the timestamps are taken for append times.
    pub(super) by_producers: Option<bool>,
    pub(super) until: Instant,
}

/// Whether it is known that the topic's timestamps are the producers'.
pub(super) fn by_producers(stamps: &Stamps, topic: &TopicDescription) -> bool {
    let stamp = stamps.get(&topic.name).filter(|stamp| stamp.id == topic.topic_id);
    stamp.and_then(|stamp| stamp.by_producers) == Some(true)
}

/// Asks for what is not known, in one request. Only topics that are still asked for are remembered.
pub(super) async fn refresh(
    client: &AdminClient,
    topics: &HashMap<String, Reply<TopicDescription>>,
    known: &Stamps,
    now: Instant,
    patience: Duration,
) -> Stamps {
    let mut stamps = Stamps::new();
    let mut open = Vec::new();
    for topic in topics.values().flatten() {
        match known.get(&topic.name).filter(|stamp| stamp.id == topic.topic_id && now < stamp.until) {
            Some(stamp) => _ = stamps.insert(topic.name.clone(), *stamp),
            None => open.push(topic),
        }
    }
    if open.is_empty() {
        return stamps;
    }
    let resources = open.iter().map(|topic| ConfigResource::topic(&topic.name));
    let options = DescribeConfigsOptions::default().config_names(vec![KEY.to_owned()]).timeout(patience);
    let answers = client.describe_configs(resources, options).await.unwrap_or_default();
    for topic in open {
        let entries = answers.get(&ConfigResource::topic(&topic.name)).and_then(|reply| reply.as_ref().ok());
        let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.name == KEY));
        let by_producers = entry.and_then(|entry| entry.value.as_deref()).map(|value| value == "CreateTime");
        let holds = if by_producers.is_some() { HOLDS } else { UNKNOWN_HOLDS };
        stamps.insert(topic.name.clone(), Stamp { id: topic.topic_id, by_producers, until: now + holds });
    }
    stamps
}
