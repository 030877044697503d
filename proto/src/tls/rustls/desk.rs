//! Configurations of connections, used again after each handshake.
//!
//! rustls reaches the verifier only through the configuration, and the verifier keeps the reason of one
//! handshake. To build a configuration for each handshake would allocate and free some 25 KiB for the session
//! cache that it begins with, and leave holes of that size in the heap.

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::verifier::{GivenTime, SessionVerifier};
use crate::limits::MAX_IDLE_DESKS;

/// A configuration with what of it changes from one handshake to the next.
pub(super) struct Desk<C> {
    pub(super) config: Arc<C>,
    pub(super) verifier: Arc<SessionVerifier>,
    pub(super) time: Arc<GivenTime>,
}

/// Those that no handshake uses now.
pub(super) struct Desks<C>(Mutex<Vec<Desk<C>>>);

impl<C> Desks<C> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// One for a handshake at `unix`, out of the store or by `make`.
    pub(super) fn lease<E>(
        self: &Arc<Self>,
        unix: Duration,
        make: impl FnOnce() -> Result<Desk<C>, E>,
    ) -> Result<Lease<C>, E> {
        let idle = self.store().pop();
        let desk = idle.map_or_else(make, Ok)?;
        desk.time.set(unix);
        Ok(Lease { desk, home: self.clone() })
    }

    fn store(&self) -> MutexGuard<'_, Vec<Desk<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The use of a [`Desk`] by one handshake; must outlive its connection.
pub(super) struct Lease<C> {
    desk: Desk<C>,
    home: Arc<Desks<C>>,
}

impl<C> Lease<C> {
    pub(super) fn desk(&self) -> &Desk<C> {
        &self.desk
    }
}

impl<C> Drop for Lease<C> {
    fn drop(&mut self) {
        self.desk.verifier.clear();
        let mut store = self.home.store();
        if store.len() < MAX_IDLE_DESKS {
            let Desk { config, verifier, time } = &self.desk;
            store.push(Desk { config: config.clone(), verifier: verifier.clone(), time: time.clone() });
        }
    }
}
