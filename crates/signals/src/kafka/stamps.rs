//! Whose clock a topic's timestamps are of. With `message.timestamp.type=CreateTime`, which is Kafka's default, it is the
//! producers': a record that was made an hour ago and appended now is an hour old by its timestamp, and a producer's clock
//! may be wrong. A look-up by timestamp says nothing then of what was appended when. Where it is not known whose they are,
//! nothing is looked up by them either.

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
    /// The timestamps are the producers'; `None`: never answered.
    pub(super) by_producers: Option<bool>,
    /// When it is asked for anew. What was answered holds until there is another answer.
    pub(super) until: Instant,
}

/// Whether the topic's timestamps are the producers'; `None`: it is not known.
pub(super) fn by_producers(stamps: &Stamps, topic: &TopicDescription) -> Option<bool> {
    stamps.get(&topic.name).filter(|stamp| stamp.id == topic.topic_id).and_then(|stamp| stamp.by_producers)
}

/// Asks for what is not known or was answered long ago, in one request. Only topics that are still asked for are remembered.
pub(super) async fn refresh(
    client: &AdminClient,
    topics: &HashMap<String, Reply<TopicDescription>>,
    known: &Stamps,
    now: Instant,
    patience: Duration,
) -> Stamps {
    let mut stamps = Stamps::new();
    let mut open = Vec::new();
    for (name, reply) in topics {
        match (reply, known.get(name)) {
            (Ok(topic), Some(stamp)) if stamp.id == topic.topic_id && now < stamp.until => {
                stamps.insert(name.clone(), *stamp);
            }
            (Ok(topic), _) => open.push(topic),
            // One lost answer about the topic does not make it another topic.
            (Err(_), Some(stamp)) => _ = stamps.insert(name.clone(), *stamp),
            (Err(_), None) => {}
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
        let answered = entry.and_then(|entry| entry.value.as_deref()).map(|value| value == "CreateTime");
        stamps.insert(topic.name.clone(), after(topic, answered, known, now));
    }
    stamps
}

/// What is known of a topic that was asked for. Without an answer what was known of the same topic stays.
fn after(topic: &TopicDescription, answered: Option<bool>, known: &Stamps, now: Instant) -> Stamp {
    let holds = if answered.is_some() { HOLDS } else { UNKNOWN_HOLDS };
    Stamp { id: topic.topic_id, by_producers: answered.or_else(|| by_producers(known, topic)), until: now + holds }
}
