//! Explains a decision in numbers and in one sentence.

pub(crate) mod message;
pub(crate) mod numbers;
