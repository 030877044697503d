//! Records that nobody made, in a control channel that nothing protects.

use super::*;
use crate::wire::ids::{KeyId, MessageId};
use crate::wire::opcode::Opcode;

/// A tunnel that is up, and the client's session id.
fn tunnel(change: impl Fn(&mut ServerConfig, &mut ClientConfig)) -> (Net, [u8; 8]) {
    let (mut server, mut client) = pairs().remove(0);
    change(&mut server, &mut client);
    let mut net = Net::new(server, 7);
    net.join(1, client, None);
    let (.., first) = net.link.values().next().unwrap();
    let id = first[1..9].try_into().unwrap();
    assert!(net.up(1, secs(1)));
    net.run(secs(15));
    (net, id)
}

/// TLS records in the client's name, under each number that may be the next.
fn spoof(net: &mut Net, id: [u8; 8], key: u8, record: &[u8]) {
    for message in 0..40_u32 {
        let mut packet = vec![Opcode::ControlV1.header(KeyId::from_low_bits(key))];
        packet.extend(id);
        packet.push(0);
        packet.extend(MessageId(message).0.to_be_bytes());
        packet.extend(record);
        let path = net.address(1, 0);
        net.deliver(path, true, &mut packet);
        net.drain();
    }
    net.run(secs(1));
}

/// A record of the fake TLS that can't be.
const JUNK: [u8; 4] = [0, 2, 99, 0];

/// A message from the server arrives.
fn assert_heard(net: &mut Net) {
    let before = net.clients[&1].count("Message");
    let session = net.server.session.unwrap();
    net.at_server(|node, now| node.send_message(now, session, "INFO,hello"));
    net.drain();
    net.run(secs(1));
    assert_eq!(net.clients[&1].count("Message"), before + 1, "{:?}", net.server.events);
}

fn broken(change: impl Fn(&mut ServerConfig, &mut ClientConfig)) -> (Net, [u8; 8]) {
    let (mut net, id) = tunnel(change);
    assert_heard(&mut net);
    spoof(&mut net, id, 0, &JUNK);
    assert_eq!(net.server.count("ControlLost"), 1, "{:?}", net.server.node.drops());
    // More of it changes nothing.
    spoof(&mut net, id, 0, &JUNK);
    spoof(&mut net, id, 1, &JUNK);
    assert_eq!(net.server.count("ControlLost"), 1);
    assert_eq!((net.server.closed().len(), net.clients[&1].closed().len()), (0, 0));
    assert!(net.server.node.drops().iter().map(|(_, n)| n).sum::<u64>() > 80);
    net.assert_alive(1, "under the key that was there");
    (net, id)
}

#[test]
fn a_broken_control_channel_is_revived_by_either_side() {
    for by_server in [true, false] {
        let (mut net, id) = broken(|_, _| {});
        for key in 1..=3_u8 {
            if by_server {
                let session = net.server.session.unwrap();
                net.at_server(|node, now| node.renegotiate(now, session));
            } else {
                net.at_client(1, Node::renegotiate);
            }
            net.drain();
            net.run(secs(2));
            net.assert_alive(1, "under the next key");
            net.run(secs(70));
            assert_eq!(net.server.count("Rekeyed"), usize::from(key), "by server: {by_server}");
            assert_heard(&mut net);
            // From here on a key of its own protects it.
            spoof(&mut net, id, key, &JUNK);
            assert_eq!(net.server.count("ControlLost"), 1);
        }
        assert_eq!((net.server.closed().len(), net.clients[&1].closed().len()), (0, 0));
    }
}

#[test]
fn it_is_revived_when_the_time_for_the_next_key_has_come() {
    for by_server in [true, false] {
        let (mut net, _) = broken(|server, client| {
            let channel = if by_server { &mut server.channel } else { &mut client.channel };
            channel.timing.reneg = secs(120);
        });
        net.run(secs(120));
        net.assert_alive(1, "under the next key");
        net.run(secs(70));
        assert_eq!(net.server.count("Rekeyed"), 1, "by server: {by_server}");
        assert_heard(&mut net);
        net.assert_alive(1, "under the next key");
        assert_eq!(net.server.closed().len(), 0);
    }
}

#[test]
fn a_revival_that_fails_leaves_the_key_to_its_end_and_the_client_begins_anew() {
    let (mut net, _) = broken(|_, client| client.channel.timing.hand_window = secs(90));
    net.at_client(1, Node::renegotiate);
    net.drain();
    net.run(Duration::from_millis(25));
    net.faults = Faults { drop: 100, control_only: true, ..Faults::default() };
    net.run(secs(62));
    assert_eq!(net.server.count("ControlLost"), 2);
    net.faults = Faults::default();
    net.assert_alive(1, "under the first key");
    assert_eq!(net.clients[&1].closed().len(), 0);
    // The client sees that nothing comes of it.
    net.run(secs(30));
    assert_eq!((net.clients[&1].closed(), net.server.closed().len()), (vec![&CloseCause::HandWindow], 0));
    restart(&mut net);
    net.assert_alive(1, "anew");
}

/// The client begins anew from its address.
fn restart(net: &mut Net) {
    net.restart(1, pairs().remove(0).1, None);
    assert!(net.up(1, secs(5)), "{:?}", net.server.node.drops());
    net.run(secs(1));
    assert_eq!(net.server.closed(), [&CloseCause::Replaced]);
    assert_eq!(net.server.node.sessions(), 1);
}

#[test]
fn a_client_that_starts_anew_replaces_its_broken_session() {
    let (mut net, _) = broken(|_, _| {});
    restart(&mut net);
    net.assert_alive(1, "anew");
    assert_heard(&mut net);
}

#[test]
fn a_broken_control_channel_is_not_kept_for_ever() {
    let (mut net, _) = broken(|server, _| server.channel.timing.tran_window = secs(100));
    net.run(secs(90));
    net.assert_alive(1, "within the window");
    net.run(secs(10));
    assert_eq!(net.server.closed(), [&CloseCause::HandWindow]);
}

#[test]
fn who_leaves_over_a_broken_control_channel_says_so_with_data() {
    let (mut net, _) = broken(|server, _| server.channel.exit_notify = Some(1));
    let session = net.server.session.unwrap();
    net.at_server(|node, now| node.close(now, session));
    net.drain();
    net.run(secs(2));
    assert_eq!(net.server.closed(), [&CloseCause::Local]);
    let host = net.clients.get_mut(&1).unwrap();
    let reports: Vec<Report> = core::iter::from_fn(|| host.plane.poll_report()).collect();
    assert!(
        host.closed() == [&CloseCause::PeerExit] || format!("{reports:?}").contains("PeerExit"),
        "{:?} {reports:?}",
        host.closed()
    );
}

#[test]
fn what_the_client_says_itself_ends_its_session() {
    let (mut net, id) = tunnel(|_, _| {});
    // Under a real TLS only the client can make an alert that is taken.
    spoof(&mut net, id, 0, &[0, 3, 21, 2, 48]);
    assert!(matches!(net.server.closed()[..], [CloseCause::Tls(_)]), "{:?}", net.server.closed());
}
