//! What is known about each client, and how to find it.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use ipnet::IpNet;
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::event::login::Token;
use oxivpn_proto::pool::Lease;
use oxivpn_proto::report::Totals;
use oxivpn_proto::tls::PeerIdentity;
use oxivpn_proto::{Path, PeerRef, SessionHandle};

use super::words;

/// One client, from its first proven packet to the end of its session. There may be many thousands, so only what
/// scripts and the management interface need is kept, and that only if there are any.
#[derive(Debug)]
pub(super) struct Client {
    /// Where it is.
    pub(super) path: Path,
    /// Its outer address.
    pub(super) remote: SocketAddr,
    /// In front of its log lines: `name/address `, or `address ` before it is known.
    pub(super) prefix: Box<str>,
    /// Common name; empty before it is known, and if there is none.
    pub(super) name: Box<str>,
    /// User name, as sent.
    pub(super) username: Option<Box<str>>,
    /// Client id of the management interface.
    pub(super) cid: u64,
    /// Unix time of its first packet, and later of its admission.
    pub(super) since: Duration,
    /// Its inner addresses.
    pub(super) lease: Option<Lease>,
    /// Its peer in the data plane, once data flows.
    pub(super) peer: Option<PeerRef>,
    /// Cipher of the data channel.
    pub(super) cipher: Option<DataCipher>,
    /// Bytes moved, as last heard.
    pub(super) totals: Totals,
    /// Whether `client-connect` was run, or would have been: `client-disconnect` is due at the end.
    pub(super) connected: bool,
    /// TLS version and suite of the first key, until it is told.
    pub(super) description: Option<Box<str>>,
    /// Inner addresses that `learn-address` refused.
    pub(super) refused: Vec<IpNet>,
    /// Logins so far: the next one's key id of the management interface.
    pub(super) logins: u64,
    /// For scripts.
    pub(super) facts: Option<Box<Facts>>,
}

/// What scripts are told about a client.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Its certificate.
    pub(super) identity: Option<PeerIdentity>,
    /// Peer-info lines.
    pub(super) peer_info: String,
    /// The token it brought.
    pub(super) token: Option<Token>,
}

impl Client {
    pub(super) fn new(path: Path, remote: SocketAddr, cid: u64, since: Duration) -> Self {
        Self {
            path,
            remote,
            prefix: format!("{} ", words::real(remote)).into(),
            name: "".into(),
            username: None,
            cid,
            since,
            lease: None,
            peer: None,
            cipher: None,
            totals: Totals::default(),
            connected: false,
            description: None,
            refused: Vec::new(),
            logins: 0,
            facts: None,
        }
    }

    /// `name/address`, or the address alone.
    pub(super) fn who(&self) -> &str {
        self.prefix.trim_end()
    }

    /// The name as log lines have it.
    pub(super) fn shown_name(&self) -> &str {
        if self.name.is_empty() { "UNDEF" } else { &self.name }
    }

    /// From now on lines bear the name.
    pub(super) fn set_prefix(&mut self) {
        let real = words::real(self.remote);
        self.prefix =
            if self.name.is_empty() { format!("{real} ") } else { format!("{}/{real} ", self.name) }.into();
    }
}

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_session: BTreeMap<SessionHandle, Client>,
    by_peer: HashMap<PeerRef, SessionHandle>,
    by_cid: HashMap<u64, SessionHandle>,
    /// Those that were let in, by common name.
    by_name: HashMap<Box<str>, Vec<SessionHandle>>,
    next_cid: u64,
    /// Those that were let in.
    admitted: usize,
}

impl Clients {
    pub(super) fn insert(&mut self, session: SessionHandle, path: Path, remote: SocketAddr, since: Duration) {
        let cid = self.next_cid;
        self.next_cid += 1;
        self.by_cid.insert(cid, session);
        self.by_session.insert(session, Client::new(path, remote, cid, since));
    }

    pub(super) fn get(&self, session: SessionHandle) -> Option<&Client> {
        self.by_session.get(&session)
    }

    pub(super) fn get_mut(&mut self, session: SessionHandle) -> Option<&mut Client> {
        self.by_session.get_mut(&session)
    }

    pub(super) fn of_peer(&mut self, peer: PeerRef) -> Option<&mut Client> {
        self.by_session.get_mut(self.by_peer.get(&peer)?)
    }

    pub(super) fn session_of_cid(&self, cid: u64) -> Option<SessionHandle> {
        self.by_cid.get(&cid).copied()
    }

    /// Data flows for this client.
    pub(super) fn set_peer(&mut self, session: SessionHandle, peer: PeerRef) {
        if let Some(client) = self.by_session.get_mut(&session) {
            client.peer = Some(peer);
            self.by_peer.insert(peer, session);
        }
    }

    /// It was let in.
    pub(super) fn set_connected(&mut self, session: SessionHandle) {
        if let Some(client) = self.by_session.get_mut(&session)
            && !core::mem::replace(&mut client.connected, true)
        {
            self.admitted += 1;
            self.by_name.entry(client.name.clone()).or_default().push(session);
        }
    }

    pub(super) fn remove(&mut self, session: SessionHandle) -> Option<Client> {
        let client = self.by_session.remove(&session)?;
        self.by_cid.remove(&client.cid);
        if let Some(peer) = client.peer {
            self.by_peer.remove(&peer);
        }
        if client.connected {
            self.admitted -= 1;
            if let Some(sessions) = self.by_name.get_mut(&client.name) {
                sessions.retain(|other| *other != session);
                if sessions.is_empty() {
                    self.by_name.remove(&client.name);
                }
            }
        }
        Some(client)
    }

    /// Sessions of clients with this name that were let in.
    pub(super) fn named(&self, name: &str) -> Vec<SessionHandle> {
        self.by_name.get(name).cloned().unwrap_or_default()
    }

    /// How many were let in.
    pub(super) const fn admitted(&self) -> usize {
        self.admitted
    }

    /// Whether another client that was let in has this name.
    pub(super) fn has_other(&self, session: SessionHandle, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|sessions| sessions.iter().any(|other| *other != session))
    }

    pub(super) fn len(&self) -> usize {
        self.by_session.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_session.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionHandle, &Client)> {
        self.by_session.iter().map(|(session, client)| (*session, client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_bear_the_name_once_it_is_known() {
        let remote = "192.0.2.7:4000".parse().unwrap();
        let mut client = Client::new(Path::udp(0, remote), remote, 0, Duration::ZERO);
        assert_eq!(
            (&*client.prefix, client.who(), client.shown_name()),
            ("192.0.2.7:4000 ", "192.0.2.7:4000", "UNDEF")
        );
        client.name = "c1".into();
        assert_eq!(client.who(), "192.0.2.7:4000");
        client.set_prefix();
        assert_eq!((client.who(), client.shown_name()), ("c1/192.0.2.7:4000", "c1"));
    }
}
