//! What changes while the process runs, off the data plane.

pub mod admin;
pub mod discovery;
pub mod explanation;
pub mod health;
pub mod reload;
