//! Configurations of server connections, used again after each handshake.
//!
//! rustls reaches the verifier only through the configuration, and the verifier keeps the reason of one
//! handshake. To build a configuration for each handshake would allocate and free some 25 KiB for the session
//! cache that it begins with, and leave holes of that size in the heap.

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::ServerConfig;

use super::verifier::{GivenTime, SessionVerifier};
use crate::limits::MAX_IDLE_DESKS;

/// A configuration with what of it changes from one handshake to the next.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifier: Arc<SessionVerifier>,
    pub(super) time: Arc<GivenTime>,
}

/// Those that no handshake uses now.
#[derive(Default)]
pub(super) struct Desks(Mutex<Vec<Desk>>);

impl Desks {
    /// One for a handshake at `unix`, out of the store or by `make`.
    pub(super) fn lease<E>(
        self: &Arc<Self>,
        unix: Duration,
        make: impl FnOnce() -> Result<Desk, E>,
    ) -> Result<Lease, E> {
        let idle = self.store().pop();
        let desk = idle.map_or_else(make, Ok)?;
        desk.time.set(unix);
        Ok(Lease { desk, home: self.clone() })
    }

    fn store(&self) -> MutexGuard<'_, Vec<Desk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The use of a [`Desk`] by one handshake; must outlive its connection.
pub(super) struct Lease {
    desk: Desk,
    home: Arc<Desks>,
}

impl Lease {
    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.desk.verifier.clear();
        let mut store = self.home.store();
        if store.len() < MAX_IDLE_DESKS {
            store.push(self.desk.clone());
        }
    }
}
