//! What goes in and what comes out.

pub mod decision;
pub mod observation;
pub mod settings;
