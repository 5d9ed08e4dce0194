//! Against krafka's fake broker.
