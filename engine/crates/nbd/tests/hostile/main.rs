//! Servers that misbehave, one way per test. Each must end in the right error, and soon.

mod cancellation;
mod handshake;
mod server;
mod transmission;
