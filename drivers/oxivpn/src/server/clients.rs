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
    /// Data packets moved, as last heard.
    pub(super) totals: Totals,
    /// Bytes of control packets, received and sent.
    control: (u64, u64),
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
            control: (0, 0),
            connected: false,
            description: None,
            refused: Vec::new(),
            logins: 0,
            facts: None,
        }
    }

    /// Bytes received on the link, handshakes and pings included (`openvpn: forward.c`, `link_read_bytes`).
    pub(super) const fn received(&self) -> u64 {
        self.totals.rx_bytes + self.control.0
    }

    /// Bytes sent on the link.
    pub(super) const fn sent(&self) -> u64 {
        self.totals.tx_bytes + self.control.1
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
    /// The newest at each path.
    by_path: HashMap<Path, SessionHandle>,
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
        self.by_path.insert(path, session);
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

    /// A client has another address now.
    pub(super) fn move_to(&mut self, session: SessionHandle, path: Path, remote: SocketAddr) {
        let Some(client) = self.by_session.get_mut(&session) else { return };
        let before = core::mem::replace(&mut client.path, path);
        client.remote = remote;
        client.set_prefix();
        if self.by_path.get(&before) == Some(&session) {
            self.by_path.remove(&before);
        }
        self.by_path.insert(path, session);
    }

    /// A control packet came from this path; whether a client is there.
    pub(super) fn count_received(&mut self, path: &Path, bytes: usize) -> bool {
        let client = self.by_path.get(path).and_then(|session| self.by_session.get_mut(session));
        client.map(|client| client.control.0 += bytes as u64).is_some()
    }

    /// A control packet goes there.
    pub(super) fn count_sent(&mut self, path: &Path, bytes: usize) {
        if let Some(client) = self.by_path.get(path).and_then(|session| self.by_session.get_mut(session)) {
            client.control.1 += bytes as u64;
        }
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
        if self.by_path.get(&client.path) == Some(&session) {
            self.by_path.remove(&client.path);
        }
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

    #[test]
    fn handshakes_count_wherever_a_client_is() {
        let at = |port: u16| {
            let remote = SocketAddr::from(([192, 0, 2, 7], port));
            (Path::udp(0, remote), remote)
        };
        let mut clients = Clients::default();
        let ((first, remote), (second, moved)) = (at(1), at(2));
        assert!(!clients.count_received(&first, 9), "nobody is there");
        let [old, new] = [1, 2].map(SessionHandle::from_number);
        clients.insert(old, first, remote, Duration::ZERO);
        assert!(clients.count_received(&first, 10));
        clients.count_sent(&first, 100);
        clients.get_mut(old).unwrap().totals = Totals { rx_bytes: 1000, tx_bytes: 5, ..Totals::default() };
        clients.move_to(old, second, moved);
        clients.count_sent(&second, 100);
        clients.insert(new, second, moved, Duration::ZERO);
        clients.count_sent(&second, 7);
        let sums = |clients: &Clients, session| clients.get(session).map(|c| (c.received(), c.sent()));
        assert_eq!(sums(&clients, old), Some((1010, 205)));
        assert_eq!(sums(&clients, new), Some((0, 7)));
        clients.remove(old);
        assert!(clients.count_received(&second, 1));
        clients.remove(new);
        assert!(clients.by_path.is_empty());
    }
}
