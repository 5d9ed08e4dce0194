//! The reference worker: consumes a topic in a group and says what it has done (docs/worker-metrics.md).
