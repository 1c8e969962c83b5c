//! Several connections to one export.

use bytes::Bytes;
use futures_util::future::join_all;

use crate::{Client, Error, Export, ExportInfo, Extent};

/// Several connections to one export; each request takes the one with the fewest in flight.
///
/// A pool lives as long as all its connections: when one ends, requests fail with its error, since
/// writes that it had accepted may be lost. Reconnecting is the caller's affair.
pub struct Pool {
    clients: Vec<Client>,
}

impl Pool {
    /// Opens up to `connections` connections (at least one), but only one if the export is writable
    /// and the server does not promise that a flush covers all connections.
    ///
    /// A server that accepts fewer is used with those it accepts: see [`Pool::connections`].
    ///
    /// # Errors
    /// As [`Client::connect`], for the first connection; [`Error::Protocol`] if the server tells
    /// different things on different connections.
    pub async fn connect(export: &Export, connections: usize) -> Result<Pool, Error> {
        let first = Client::connect(export).await?;
        let wanted = match first.info() {
            info if info.read_only || info.can_multi_conn => connections.max(1),
            _ => 1,
        };
        let more = join_all((1..wanted).map(|_| Client::connect(export))).await;
        let mut clients = vec![first];
        for client in more.into_iter().flatten() {
            if client.info() != clients[0].info() {
                let text = "it describes one export differently on two connections";
                return Err(Error::Protocol(text.to_owned()));
            }
            clients.push(client);
        }
        Ok(Pool { clients })
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Whether a connection has ended, and with it the use of this pool.
    pub fn is_closed(&self) -> bool {
        self.clients.iter().any(Client::is_closed)
    }

    /// What the server said of the export.
    pub fn info(&self) -> &ExportInfo {
        self.clients[0].info()
    }

    /// As [`Client::read`].
    ///
    /// # Errors
    /// As [`Client::read`].
    pub async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Error> {
        self.pick().read(offset, length).await
    }

    /// As [`Client::write`].
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn write(&self, offset: u64, data: Bytes, fua: bool) -> Result<(), Error> {
        self.pick().write(offset, data, fua).await
    }

    /// As [`Client::write_zeroes`].
    ///
    /// # Errors
    /// As [`Client::write_zeroes`].
    pub async fn write_zeroes(
        &self,
        offset: u64,
        length: u32,
        may_punch_hole: bool,
    ) -> Result<(), Error> {
        self.pick()
            .write_zeroes(offset, length, may_punch_hole)
            .await
    }

    /// Makes all writes durable that completed on any connection of this pool.
    ///
    /// # Errors
    /// As [`Client::flush`].
    pub async fn flush(&self) -> Result<(), Error> {
        // One is enough: there are several only if the server lets a flush cover them all.
        self.pick().flush().await
    }

    /// As [`Client::block_status`].
    ///
    /// # Errors
    /// As [`Client::block_status`].
    pub async fn block_status(
        &self,
        context: &str,
        offset: u64,
        length: u32,
    ) -> Result<Vec<Extent>, Error> {
        self.pick().block_status(context, offset, length).await
    }

    /// As [`Client::disconnect`], on all connections.
    pub async fn disconnect(self) {
        join_all(self.clients.into_iter().map(Client::disconnect)).await;
    }

    /// One that has ended, so that the caller hears of it; else the one with the fewest in flight.
    fn pick(&self) -> &Client {
        let by_load = |client: &&Client| (!client.is_closed(), client.in_flight());
        self.clients
            .iter()
            .min_by_key(by_load)
            .unwrap_or(&self.clients[0])
    }
}
