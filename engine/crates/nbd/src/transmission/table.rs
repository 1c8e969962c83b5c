//! The requests in flight on one connection.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use buffers::Buffer;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::reply::Assembly;
use crate::{Error, Extent};

/// What a request came to.
pub(crate) struct Answer {
    /// The data of a read; else empty.
    pub(crate) data: Buffer,
    /// The extents of a block status request; else empty.
    pub(crate) extents: Vec<Extent>,
}

/// A request whose reply is not complete.
pub(crate) struct Pending {
    pub(crate) assembly: Assembly,
    /// As long as the read, else empty.
    pub(crate) buffer: Buffer,
    pub(crate) answer: oneshot::Sender<Result<Answer, Error>>,
    /// Held until the reply is here, even if nobody waits for it any more.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Pending {
    /// The assembly must have passed its `finish`.
    pub(crate) fn complete(self) {
        let Pending {
            assembly,
            buffer,
            answer,
            permit,
        } = self;
        drop(permit);
        let outcome = assembly.outcome().map(|extents| Answer {
            data: buffer,
            extents,
        });
        // Nobody listens if the caller has lost interest; that is its right.
        let _ = answer.send(outcome);
    }
}

#[derive(Default)]
struct State {
    requests: HashMap<u64, Pending>,
    next_cookie: u64,
    /// Set once; no request is taken from then on.
    ended: Option<Error>,
}

/// Requests by cookie, and why the connection ended.
#[derive(Default)]
pub(crate) struct Table {
    state: Mutex<State>,
}

impl Table {
    /// Returns the cookie of the new request, or why the connection takes none.
    pub(crate) fn insert(&self, pending: Pending) -> Result<u64, Error> {
        let mut state = self.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let cookie = state.next_cookie;
        state.next_cookie += 1;
        state.requests.insert(cookie, pending);
        Ok(cookie)
    }

    pub(crate) fn take(&self, cookie: u64) -> Option<Pending> {
        self.lock().requests.remove(&cookie)
    }

    pub(crate) fn put_back(&self, cookie: u64, pending: Option<Pending>) {
        self.lock()
            .requests
            .extend(pending.map(|pending| (cookie, pending)));
    }

    /// No new requests; those in flight may still be answered.
    pub(crate) fn close(&self) {
        self.lock().ended.get_or_insert(Error::Closed);
    }

    /// The end: every request in flight fails with `error`.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.lock();
        let error = state.ended.get_or_insert(error).clone();
        let requests = std::mem::take(&mut state.requests);
        drop(state);
        for pending in requests.into_values() {
            // Nobody listens if the caller has lost interest; that is its right.
            let _ = pending.answer.send(Err(error.clone()));
        }
    }

    /// Why the connection takes no requests.
    pub(crate) fn end(&self) -> Error {
        self.lock().ended.clone().unwrap_or(Error::Closed)
    }

    /// Nothing under this lock panics, and each change is one statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
