//! What both ends do with the connections of a session: writers that drain one shared queue,
//! readers that hand messages on, heartbeats, a watchdog, and the farewell to a connection.
//!
//! Every end counts the frames that it takes from a connection, and notes what it sends on it.
//! When a connection ends, each end tells the other how many frames it took and that it takes no
//! more; what the other sent beyond that never arrived and never will, so it may go over another
//! connection without there ever being two copies of anything (`docs/link-protocol.md`).

mod connection;
mod connections;
mod health;
mod ledger;
mod queue;
mod settlement;
mod silence;
mod status;

pub use connections::{Connections, Event};
pub use health::{Health, Roster};
pub use ledger::LostData;
pub use queue::Outgoing;
pub use status::{ConnectionStatus, TcpTotals};

use drover_link::{LinkError, Message};
use std::sync::Arc;

/// What an end does with messages. It must not wait: whoever reads a connection reads on at once.
pub trait Receive: Send + Sync + 'static {
    /// Handles one message.
    fn receive(self: &Arc<Self>, message: Message) -> Result<(), LinkError>;

    /// Data that was sent did not arrive and never will.
    fn lost(&self, data: LostData);
}

/// What all connections of a session share.
pub struct Parties<R> {
    /// Takes the messages.
    pub receiver: Arc<R>,
    /// What to send.
    pub outgoing: Outgoing,
    /// The connections that live, for the status.
    pub roster: Arc<Roster>,
}
