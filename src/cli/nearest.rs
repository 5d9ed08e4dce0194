//! Suggestions for misspelt words, for "did you mean".

/// Returns the known word nearest to `word`, if one is near enough to have been intended. Letter case is ignored.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let max_distance = (lower.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= max_distance)
        // Of equally near words the alphabetically first, so that the result does not depend on the order of the words.
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_near_words_only() {
        let known = ["minReplicas", "maxReplicas", "replicas", "suspend"];
        for (word, found) in [
            ("maxReplica", Some("maxReplicas")),
            ("maxreplicas", Some("maxReplicas")),
            ("max_replicas", Some("maxReplicas")),
            ("suspned", Some("suspend")),
            ("latency", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), found, "{word}");
        }
    }
}
