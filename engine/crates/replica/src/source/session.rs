//! One session: its connections, the VDISKs opened on them, and the tasks that feed them.

use super::link::SourceLink;
use super::outbox::{BACKGROUND_MEMORY, FOREGROUND_MEMORY, Lanes, Outbox};
use super::slots::{Attempt, Slots};
use super::status::Running;
use super::vdisk::Vdisk;
use super::{Shared, background, foreground, hashing, lock};
use crate::budget::Budget;
use crate::chunk::CHUNK_SIZE;
use crate::compression::Compressor;
use crate::conversation::{Connections, Event, LostData, Outgoing, Parties, Receive};
use crate::trouble::Trouble;
use drover_link::handshake::{Dialer, SOFTWARE};
use drover_link::{Connection, Hello, LinkError, Message, PROTOCOL_VERSION};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
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
    let calling = Arc::new(Calling::new(shared, link));
    let (first, number) = match calling.dial(0, 0).await {
        Ok(first) => first,
        Err(error) => return error,
    };
    let outgoing = Outgoing::default();
    let lanes = Arc::new(Lanes {
        shared: shared.clone(),
        outgoing: outgoing.clone(),
        compressor: Compressor::new(link.compression),
        background: Budget::new(BACKGROUND_MEMORY.0, BACKGROUND_MEMORY.1),
        foreground: Budget::new(FOREGROUND_MEMORY.0, FOREGROUND_MEMORY.1),
    });
    let cancel = CancellationToken::new();
    let guard = Ending {
        shared: shared.clone(),
        _cancel: cancel.clone().drop_guard(),
    };
    let running = Running {
        roster: Arc::default(),
        slots: Arc::new(Mutex::new(Slots::new())),
    };
    let reception = Arc::new(Reception {
        shared: shared.clone(),
        lanes,
        handles: Mutex::default(),
        cancel,
    });
    let mut connections = Connections::new(Parties {
        receiver: reception.clone(),
        outgoing,
        roster: running.roster.clone(),
    });
    connections.join(0, first);
    let slots = running.slots.clone();
    lock(&shared.link_state).up(running);
    tracing::info!(address = link.connect, session = number, "link up");
    let reason = reception
        .converse(&mut connections, &slots, &calling, number)
        .await;
    connections.shutdown().await;
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

/// How the destination is called.
struct Calling {
    dialer: Dialer,
    token: u64,
}

impl Calling {
    fn new(shared: &Shared, link: &SourceLink) -> Self {
        let dialer = Dialer {
            address: link.connect.clone(),
            server_name: link.server_name.clone(),
            identity: link.identity.clone(),
            traffic: shared.traffic.clone(),
        };
        let token = link.token;
        Calling { dialer, token }
    }

    async fn dial(&self, session: u64, connection: u32) -> Result<(Connection, u64), LinkError> {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            session,
            token: self.token,
            connection,
            software: SOFTWARE.into(),
        };
        self.dialer.dial(hello).await
    }
}

/// Another connection for a session, or why there is none.
struct Dialled {
    number: u32,
    outcome: Result<Connection, LinkError>,
}

impl Reception {
    /// Opens VDISKs and keeps the wanted number of connections up, until the session is over.
    async fn converse(
        &self,
        connections: &mut Connections<Reception>,
        slots: &Arc<Mutex<Slots>>,
        calling: &Arc<Calling>,
        session: u64,
    ) -> LinkError {
        let mut dials = JoinSet::new();
        let mut wanted = self.shared.connections.subscribe();
        let mut attention = self.shared.attention.subscribe();
        loop {
            attention.borrow_and_update();
            self.open_vdisks();
            let wish = *wanted.borrow_and_update();
            let retired = lock(slots).resize(wish);
            retired
                .into_iter()
                .for_each(|number| connections.retire(number));
            for attempt in lock(slots).attempts() {
                dials.spawn(attempt_dial(
                    attempt,
                    slots.clone(),
                    calling.clone(),
                    session,
                ));
            }
            tokio::select! {
                event = connections.next() => match event {
                    Event::Over(reason) => return reason,
                    Event::Lost { number, reason } => {
                        tracing::info!(session, connection = number, "connection lost: {reason}");
                        lock(slots).down(number, reason.to_string());
                    }
                },
                Some(Ok(dialled)) = dials.join_next() => {
                    let number = dialled.number;
                    match dialled.outcome {
                        Ok(connection) if lock(slots).up(number) => {
                            if !connections.join(number, connection) {
                                lock(slots).down(number, LinkError::GivenUp.to_string());
                            }
                        }
                        // Its place was taken away; the destination sees it close.
                        Ok(_) => {}
                        Err(error) => lock(slots).down(number, error.to_string()),
                    }
                }
                _ = wanted.changed() => {}
                _ = attention.changed() => {}
                () = tokio::time::sleep(ASK_AGAIN) => self.ask_again(),
            }
        }
    }

    /// Opens every VDISK that is not, or not any more.
    fn open_vdisks(&self) {
        let vdisks: Vec<_> = lock(&self.shared.vdisks).values().cloned().collect();
        for vdisk in vdisks {
            let Some(forget) = vdisk.wants_opening() else {
                continue;
            };
            let handle = self.shared.next_handle.fetch_add(1, Ordering::Relaxed);
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
        incarnation: u64,
    ) -> Result<(), LinkError> {
        let Some(vdisk) = self.vdisk(handle) else {
            return Ok(());
        };
        let parts = vdisk
            .opened(handle, first, runs, incarnation)
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
    fn receive(self: &Arc<Self>, message: Message) -> Result<(), LinkError> {
        match message {
            Message::VdiskOpened {
                handle,
                first,
                runs,
                incarnation,
                ..
            } => {
                self.opened(handle, first, runs.iter(), incarnation)?;
            }
            Message::Window { handle, limit } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.window(handle, limit);
                }
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
            Message::BlockHashReply {
                handle,
                request,
                hashes,
            } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.block_hash_reply(request, hashes);
                }
            }
            Message::Offer {
                handle,
                offer,
                load,
                chunks,
            } => {
                if let Some(vdisk) = self.vdisk(handle) {
                    vdisk.answer_offer(handle, offer, load, chunks);
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

    fn lost(&self, data: LostData) {
        if let Some(vdisk) = self.vdisk(data.handle) {
            vdisk.lost(data);
        }
    }
}

async fn attempt_dial(
    attempt: Attempt,
    slots: Arc<Mutex<Slots>>,
    calling: Arc<Calling>,
    session: u64,
) -> Dialled {
    let number = attempt.number;
    tokio::time::sleep(attempt.pause).await;
    if !lock(&slots).connecting(number) {
        let outcome = Err(LinkError::Closed);
        return Dialled { number, outcome };
    }
    let outcome = calling.dial(session, number).await;
    let outcome = outcome.map(|(connection, _)| connection);
    Dialled { number, outcome }
}
