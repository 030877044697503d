//! Who copies ECN bits to the outer header: both ends or none (RFC 6040, section 4.3).

use super::*;
use crate::keys::data_key::TlsRole;

const fn capabilities(ecn: bool) -> Capabilities {
    Capabilities { ecn, ..Capabilities::USERSPACE }
}

/// Ends by what they can, on datagrams or on a stream.
const CASES: [(bool, bool, bool); 5] = [
    (true, true, false),
    (true, false, false),
    (false, true, false),
    (false, false, false),
    // A stream has no header for each packet.
    (true, true, true),
];

/// Whether each end marks what it sends, and what it tells of the agreement.
fn established(events: &[Event]) -> (bool, bool) {
    let found = events.iter().find_map(|event| match event {
        Event::Established { params, flags, .. } => Some((params.ecn, flags.contains("oxivpn-ecn"))),
        _ => None,
    });
    found.unwrap()
}

fn net(seed: u8, ecn: bool, stream: bool) -> Net {
    let mut net = Net::silent(seed);
    let path = if stream { Path::Stream(StreamId(0)) } else { PATH };
    net.net = net::Net::new(seed, capabilities(ecn), Duration::ZERO, path);
    net
}

#[test]
fn a_client_and_a_server_mark_if_both_heed_marks() {
    for (here, there, stream) in CASES {
        let (server, client) = pairs().remove(0);
        let mut net = net(6, here, stream);
        net.server.node.listen(Arc::new(server));
        let path = net.server.path;
        net.seat(1, 5, capabilities(there), |node, now| {
            node.connect(now, path, Arc::new(client), None).unwrap()
        });
        assert!(net.up(1, secs(2)));
        let case = (here, there, stream);
        let both = here && there && !stream;
        assert_eq!(established(&net.server.events), (both, both), "{case:?}");
        assert_eq!(established(&net.clients[&1].events), (both, both), "{case:?}");
        let info = net.server.events.iter().find_map(|event| match event {
            Event::Admit(_, admission) => Some(admission.peer_info.contains("IV_OXIVPN_ECN=1\n")),
            _ => None,
        });
        assert!(info.is_none_or(|announced| announced == (there && !stream)), "{case:?}");
        // A stock client that reads a word it does not know gives the connection up.
        let told = net.server.events.iter().any(|event| match event {
            Event::Pushed { text, .. } => text.contains("oxivpn-ecn"),
            _ => false,
        });
        assert_eq!(told, both, "{case:?}");
    }
}

#[test]
fn two_peers_mark_if_both_heed_marks() {
    for (here, there, stream) in CASES {
        let peer = |role| {
            let channel = config(WrapConfig::None).channel;
            Arc::new(PeerConfig { channel, tls_crypt_v2: None, role, remote: None })
        };
        let mut net = net(4, here, stream);
        net.server.node.listen_peer(peer(TlsRole::Server));
        let path = net.server.path;
        net.seat(1, 5, capabilities(there), |node, now| {
            node.connect_peer(now, path, peer(TlsRole::Client)).unwrap()
        });
        assert!(net.up(1, secs(2)));
        net.run(secs(1));
        let both = here && there && !stream;
        for events in [&net.server.events, &net.clients[&1].events] {
            assert_eq!(established(events), (both, both), "{:?}", (here, there, stream));
        }
    }
}
