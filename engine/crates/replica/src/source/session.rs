//! One session: N connections, the VDISKs opened on them, and the tasks that feed them.

use super::link::SourceLink;
use super::outbox::{BACKGROUND_MEMORY, FOREGROUND_MEMORY, Lanes, Outbox};
use super::vdisk::Vdisk;
use super::{Shared, background, foreground, hashing, lock};
use crate::chunk::CHUNK_SIZE;
use crate::compression::Compressor;
use crate::conversation::{Outlet, Parties, Receive, RoundTrip, queues, spawn_connection};
use crate::trouble::Trouble;
use drover_link::handshake::{Dialer, SOFTWARE};
use drover_link::{Connection, Hello, LinkError, Message, PROTOCOL_VERSION};
use futures_util::future::try_join_all;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often a VDISK that the destination does not know is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

struct Reception {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
    handles: Mutex<HashMap<u32, Arc<Vdisk>>>,
    cancel: CancellationToken,
}

/// Runs a session until it ends; returns why. Dropping the future ends it as well.
pub(super) async fn run(shared: &Arc<Shared>, link: &SourceLink) -> LinkError {
    lock(&shared.link_state).connecting();
    let connections = match connect(shared, link).await {
        Ok(connections) => connections,
        Err(error) => return error,
    };
    let (outgoing, outlet) = queues();
    let round_trip = Arc::<RoundTrip>::default();
    let lanes = Arc::new(Lanes {
        shared: shared.clone(),
        outgoing,
        compressor: Compressor::new(link.compression),
        background: Arc::new(Semaphore::new(BACKGROUND_MEMORY)),
        foreground: Arc::new(Semaphore::new(FOREGROUND_MEMORY)),
    });
    let cancel = CancellationToken::new();
    let guard = Ending {
        shared: shared.clone(),
        _cancel: cancel.clone().drop_guard(),
    };
    lock(&shared.link_state).up(connections.len() as u16, round_trip.clone());
    tracing::info!(
        address = link.connect,
        connections = connections.len(),
        "link up"
    );
    let handles = Mutex::default();
    let reception = Arc::new(Reception {
        shared: shared.clone(),
        lanes,
        handles,
        cancel,
    });
    let reason = converse(reception, connections, outlet, round_trip).await;
    drop(guard);
    reason
}

/// When a session ends, however it does, its VDISKs are detached and its tasks are cancelled.
struct Ending {
    shared: Arc<Shared>,
    _cancel: DropGuard,
}

impl Drop for Ending {
    fn drop(&mut self) {
        for vdisk in lock(&self.shared.vdisks).values() {
            vdisk.detach();
        }
    }
}

async fn connect(shared: &Arc<Shared>, link: &SourceLink) -> Result<Vec<Connection>, LinkError> {
    let dialer = Dialer {
        address: link.connect.clone(),
        server_name: link.server_name.clone(),
        identity: link.identity.clone(),
        traffic: shared.traffic.clone(),
    };
    let hello = |session, index| Hello {
        protocol: PROTOCOL_VERSION,
        session,
        token: link.token,
        index,
        connections: link.connections,
        software: SOFTWARE.into(),
    };
    let (first, session) = dialer.dial(hello(0, 0)).await?;
    let others = (1..link.connections).map(|index| dialer.dial(hello(session, index)));
    let others = try_join_all(others).await?;
    Ok(std::iter::once(first)
        .chain(others.into_iter().map(|(connection, _)| connection))
        .collect())
}

async fn converse(
    reception: Arc<Reception>,
    connections: Vec<Connection>,
    outlet: Outlet,
    round_trip: Arc<RoundTrip>,
) -> LinkError {
    let mut tasks = JoinSet::new();
    let outgoing = reception.lanes.outgoing.clone();
    let parties = Parties {
        receiver: reception.clone(),
        outgoing,
        outlet,
        round_trip,
    };
    for connection in connections {
        spawn_connection(&mut tasks, connection, &parties);
    }
    let mut attention = reception.shared.attention.subscribe();
    let mut next_handle = 1;
    loop {
        attention.borrow_and_update();
        reception.open_vdisks(&mut next_handle);
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                tasks.shutdown().await;
                return ended.unwrap_or_else(|error| LinkError::Protocol(format!("a connection's task failed: {error}")));
            }
            _ = attention.changed() => {}
            () = tokio::time::sleep(ASK_AGAIN) => reception.ask_again(),
        }
    }
}

impl Reception {
    /// Opens every VDISK that is not, or not any more.
    fn open_vdisks(&self, next_handle: &mut u32) {
        let vdisks: Vec<_> = lock(&self.shared.vdisks).values().cloned().collect();
        for vdisk in vdisks {
            let Some(forget) = vdisk.wants_opening() else {
                continue;
            };
            let handle = *next_handle;
            *next_handle += 1;
            let outbox = Outbox::new(handle, self.lanes.clone());
            vdisk.attach(outbox.clone(), self.cancel.child_token(), forget);
            let mut handles = lock(&self.handles);
            handles.retain(|_, known| known.name() != vdisk.name());
            handles.insert(handle, vdisk.clone());
            drop(handles);
            let (name, size) = (vdisk.name().to_owned(), vdisk.geometry().size());
            outbox.say(Message::OpenVdisk {
                handle,
                name,
                size,
                chunk_size: CHUNK_SIZE,
                forget,
            });
        }
    }

    /// VDISKs that the destination did not know may have been made known to it since.
    fn ask_again(&self) {
        let vdisks: Vec<_> = lock(&self.shared.vdisks).values().cloned().collect();
        for vdisk in vdisks.iter().filter(|vdisk| vdisk.is_unknown()) {
            vdisk.detach();
        }
    }

    fn vdisk(&self, handle: u32) -> Option<Arc<Vdisk>> {
        lock(&self.handles).get(&handle).cloned()
    }

    fn opened(
        &self,
        handle: u32,
        first: u32,
        runs: impl Iterator<Item = (bool, u32)>,
        last: bool,
    ) -> Result<(), LinkError> {
        let Some(vdisk) = self.vdisk(handle) else {
            return Ok(());
        };
        let parts = vdisk
            .opened(handle, first, runs, last)
            .map_err(LinkError::Protocol)?;
        if let Some((outbox, cancel)) = parts {
            self.feed(&vdisk, &outbox, &cancel);
        }
        Ok(())
    }

    /// Starts the tasks that keep a VDISK's data coming.
    fn feed(&self, vdisk: &Arc<Vdisk>, outbox: &Outbox, cancel: &CancellationToken) {
        let parts = || (vdisk.clone(), outbox.clone(), cancel.clone());
        let (v, o, c) = parts();
        tokio::spawn(
            cancel
                .clone()
                .run_until_cancelled_owned(foreground::run(v, o, c)),
        );
        let (v, o, c) = parts();
        tokio::spawn(
            cancel
                .clone()
                .run_until_cancelled_owned(hashing::run(v, o, c)),
        );
        let (v, o, c) = parts();
        tokio::spawn(
            cancel
                .clone()
                .run_until_cancelled_owned(background::run(v, o, c)),
        );
    }
}

impl Receive for Reception {
    async fn receive(self: &Arc<Self>, message: Message) -> Result<(), LinkError> {
        match message {
            Message::VdiskOpened {
                handle,
                first,
                runs,
                last,
            } => {
                self.opened(handle, first, runs.iter(), last)?;
            }
            Message::Ack { handle, ids } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.acknowledged(handle, &ids);
                }
            }
            Message::Fault {
                handle,
                id,
                code,
                message,
                offset,
            } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.fault(handle, id, code, Trouble::from_fault(code, message, offset));
                }
            }
            Message::HashReply {
                handle,
                request,
                runs,
            } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.hash_reply(request, runs);
                }
            }
            Message::RootReply { handle, root } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.root_reply(root);
                }
            }
            Message::Resume { handle } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.resume(handle);
                    self.shared.call_attention();
                }
            }
            other => {
                return Err(LinkError::Protocol(format!(
                    "a destination does not send {other:?}"
                )));
            }
        }
        Ok(())
    }
}
