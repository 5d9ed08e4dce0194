//! The hub under paused time.
