//! The management interface of a server.

use oxivpn_proto::SessionHandle;
use oxivpn_proto::event::login::Login;
use oxivpn_proto::pool::ClientOverrides;

use super::Server;
use super::clients::Client;
use crate::scripts::Environment;

impl Server {
    /// Whether the interface has a say in logins.
    pub(super) fn manage_decides(&self) -> bool {
        self.profile.management.as_ref().is_some_and(|options| options.client_auth)
    }

    /// Asks about a login.
    pub(super) fn ask_manage(
        &mut self,
        _session: SessionHandle,
        _kid: u64,
        _login: &Login,
        _env: &Environment,
    ) {
    }

    /// What `client-auth` said about a client.
    pub(super) fn take_manage_config(&mut self, _session: SessionHandle) -> Option<ClientOverrides> {
        None
    }

    /// Tells of a tunnel that stands.
    pub(super) fn tell_established(&mut self, _session: SessionHandle) {}

    /// Tells of a client that is gone.
    pub(super) fn tell_gone(&mut self, _client: &Client) {}

    /// Tells of an answer to a challenge.
    pub(super) fn tell_response(&mut self, _session: SessionHandle, _response: &str) {}
}
