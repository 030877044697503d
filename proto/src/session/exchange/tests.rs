use super::*;
use crate::entropy::{Entropy, Purpose};
use crate::limits::MAX_ACKS;
use crate::reliable::Outgoing;
use crate::tls::TlsFactory as _;
use crate::tls::fake::FakeFactory;

const NOW: Instant = Instant::ZERO;
const TIMEOUT: Duration = Duration::from_secs(2);
const SIZES: Sizes = Sizes { payload: 1000, resend_wkc: None };

fn session(byte: u8) -> SessionId {
    SessionId::new([byte; 8]).unwrap()
}

fn client_source() -> ClientSource {
    ClientSource::generate(&mut Entropy::new([1; 32]).fork(Purpose::KeyMethod, 0))
}

fn server_source() -> ServerSource {
    ServerSource::generate(&mut Entropy::new([2; 32]).fork(Purpose::KeyMethod, 0))
}

/// Both sides of a negotiation that has not begun.
fn pair() -> (Exchange, Exchange) {
    let factory = FakeFactory::new();
    let greeting =
        Greeting { source: client_source(), options: "V4".into(), login: None, peer_info: "A=1\n".into() };
    let tls = factory.client(Duration::ZERO).unwrap();
    let reset = Opcode::HardResetClientV2;
    let client = Exchange::client(NOW, KeyId::FIRST, reset, TIMEOUT, tls, greeting).unwrap();
    let tls = factory.server(Duration::ZERO).unwrap();
    let opening = Opening::Send(Opcode::HardResetServerV2);
    (client, Exchange::server(NOW, KeyId::FIRST, opening, TIMEOUT, tls, server_source()))
}

/// Brings all that is due from one side to the other, acks included; whether there was anything.
fn carry(from: &mut Exchange, to: &mut Exchange) -> bool {
    let (send, acks) = from.reliable();
    to.acknowledge(&acks.take(MAX_ACKS));
    let mut carried = false;
    while let Some(Outgoing { message, opcode, payload }) = send.poll(NOW) {
        to.accept(message, opcode, payload);
        if opcode.is_reset() {
            to.on_peer_reset(NOW);
        }
        carried = true;
    }
    to.advance(NOW, SIZES).unwrap();
    carried
}

/// Runs a negotiation to its end.
fn run(client: &mut Exchange, server: &mut Exchange) {
    for _ in 0..100 {
        let there = carry(client, server);
        if server.state() == State::Asked {
            server.answer(NOW, "V4".into(), String::new(), SIZES).unwrap();
        }
        let back = carry(server, client);
        if !there && !back && client.state() == State::Active && server.state() == State::Active {
            return;
        }
    }
    panic!("{:?} and {:?}", client.state(), server.state());
}

/// Who knows no exporter derives keys from both sides' random values and session ids
/// (`openvpn: ssl.c`, `generate_key_expansion`).
#[test]
fn both_sides_derive_the_key_block_of_the_prf() {
    let (mut client, mut server) = pair();
    let (local, remote) = (session(1), session(2));
    assert!(client.derive_prf(local, remote).is_none() && server.derive_prf(remote, local).is_none());
    run(&mut client, &mut server);
    let expected = prf::derive_block(&client_source(), &server_source(), local, remote);
    assert_eq!(client.derive_prf(local, remote), Some(expected.clone()));
    assert_eq!(server.derive_prf(remote, local), Some(expected));
    client.settle();
    assert!(client.derive_prf(local, remote).is_none(), "the secrets are gone");
}

/// TLS keeps no borders: the client's message may come in several records.
#[test]
fn a_client_may_say_its_message_in_parts() {
    for at in [1, 5, 117] {
        let (mut client, mut server) = pair();
        let message = client.greeting.take().unwrap();
        while carry(&mut client, &mut server) | carry(&mut server, &mut client) {}
        for (part, state) in [(&message[..at], State::Handshake), (&message[at..], State::Asked)] {
            client.tls().write_record(part).unwrap();
            client.advance(NOW, SIZES).unwrap();
            carry(&mut client, &mut server);
            assert_eq!(server.state(), state, "{at}");
        }
        assert_eq!(server.hello().map(|hello| hello.peer_info.as_str()), Some("A=1\n"));
    }
}
