//! The control API around the replica crate, and the life of the process that offers it.

pub mod api;
pub mod engine;
mod lease;
mod log;
mod problem;
mod samples;
pub mod serve;
