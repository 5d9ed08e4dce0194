//! Translates krafka's errors.

use krafka::error::{ErrorCode, KrafkaError};
use sluice_base::text::truncate;

use crate::sample::Category;
use crate::source::SourceError;

/// Maximum length of text taken from the client or a broker, in characters.
const MAX_DETAIL_LENGTH: usize = 160;

pub(super) fn category(error: &KrafkaError) -> Category {
    match error {
        KrafkaError::Auth { .. } => Category::Unauthorised,
        KrafkaError::Broker { code, .. } => match code {
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::InvalidTopic => {
                Category::TopicMissing
            }
            ErrorCode::TopicAuthorizationFailed
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::SaslAuthenticationFailed => Category::Unauthorised,
            code if code.is_retriable() => Category::Unreachable,
            _ => Category::Protocol,
        },
        KrafkaError::Network(_) | KrafkaError::Timeout { .. } | KrafkaError::Closed { .. } => Category::Unreachable,
        KrafkaError::UnknownTopic { .. } => Category::TopicMissing,
        _ => Category::Protocol,
    }
}

/// Translates an error that concerns the cluster as a whole.
pub(super) fn from_cluster_error(error: &KrafkaError, cluster: &str) -> SourceError {
    let (cluster, detail) = (cluster.to_owned(), describe(error));
    match category(error) {
        Category::Unreachable => SourceError::Unreachable { cluster, detail },
        Category::Unauthorised => SourceError::Unauthorised { what: "the metadata".to_owned(), cluster, detail },
        _ => SourceError::Protocol { cluster, detail },
    }
}

/// Translates an error that concerns one topic.
pub(super) fn from_topic_error(error: &KrafkaError, topic: &str, cluster: &str) -> SourceError {
    match category(error) {
        Category::Unauthorised => SourceError::Unauthorised {
            what: format!("topic {topic}"),
            cluster: cluster.to_owned(),
            detail: describe(error),
        },
        Category::TopicMissing => SourceError::TopicMissing { topic: topic.to_owned(), cluster: cluster.to_owned() },
        _ => from_cluster_error(error, cluster),
    }
}

/// Describes the error in few words: the innermost cause, without krafka's report of its own retries.
pub(super) fn describe(error: &KrafkaError) -> String {
    let text = match error {
        KrafkaError::Broker { code: ErrorCode::LeaderNotAvailable, .. } => "the partition has no leader".to_owned(),
        KrafkaError::Broker { code, .. } => format!("the broker answered {code:?}"),
        KrafkaError::Timeout { operation } => match operation.split_once("last error: ") {
            Some((_, cause)) => cause.to_owned(),
            None => format!("no answer in time ({operation})"),
        },
        KrafkaError::Network(io) => {
            let mut cause: &dyn std::error::Error = io.as_ref();
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            cause.to_string()
        }
        // The other side may not be Kafka: the first bytes of an SSH server read as the size of a message.
        other => without_numbers(&other.to_string()),
    };
    truncate(text.trim_start_matches("network error: "), MAX_DETAIL_LENGTH)
}

/// Replaces numbers of five and more digits: they may be bytes of another protocol, which must not be disclosed.
fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut digits = String::new();
    for letter in text.chars().chain([' ']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        plain.push_str(if digits.len() > 4 { "…" } else { &digits });
        digits.clear();
        plain.push(letter);
    }
    plain.pop();
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catalogue: B4.
    #[test]
    fn bytes_of_another_protocol_are_not_disclosed() {
        assert_eq!(
            without_numbers("message size 1397966893 exceeds maximum 104857600"),
            "message size … exceeds maximum …"
        );
        assert_eq!(without_numbers("unsupported version 12 of 3"), "unsupported version 12 of 3");
    }
}
