//! Packets that mean ill: each of them is counted, and that is all.

use super::*;
use crate::entropy::{Entropy, EntropyStream, Purpose};
use crate::wrap::replay::ReplayId;

fn random<const N: usize>(rng: &mut EntropyStream) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill(&mut bytes);
    bytes
}

#[test]
fn forged_first_packets_leave_nothing_behind() {
    const SEED: [u8; 32] = [1; 32];
    let mut rng = Entropy::new(SEED).fork(Purpose::Jitter, 0);
    for (client, server, v2) in protections() {
        let rate = Rate { events: 50, period: 10 * SECOND };
        let channel = ChannelConfig::new(server, Arc::new(FakeFactory::new()));
        let mut doorman = Doorman::new(&channel, v2.as_ref(), Some(rate), None, &[9; 32]);
        let mut client = Client::new(&client);
        let (mut replies, mut sizes) = (0, Vec::new());
        for n in 0..3000 {
            client.id = SessionId::new(random(&mut rng)).expect("not zero");
            let [a, b, c, d, high, low] = random(&mut rng);
            let path = Path::udp(0, ([a, b, c, d], u16::from_be_bytes([high, low])).into());
            match knock(&mut doorman, NOW, path, &client.reset()) {
                Got::Reply(_) => replies += 1,
                Got::Drop(reason) => assert_eq!(reason, DropReason::RateLimited, "seed {SEED:?}"),
                Got::Welcome(..) => panic!("state for a forged address, seed {SEED:?}"),
            }
            if n % 1000 == 999 {
                sizes.push(doorman.body.capacity());
            }
        }
        assert_eq!(replies, 50);
        assert!(sizes[0] <= 64 && sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    }
}

#[test]
fn a_session_id_serves_only_whom_it_was_made_for() {
    for (client, server, v2) in protections() {
        let (mut doorman, mut client, ours) = acquainted(&client, &server, v2.as_ref());
        let second = client.second(ours);
        let elsewhere = [
            udp(2),
            Path::udp(1, ([192, 0, 2, 1], 1).into()),
            Path::udp(0, ([192, 0, 2, 2], 1).into()),
            Path::Datagram {
                socket: 0,
                remote: ([192, 0, 2, 1], 1).into(),
                local: Some([192, 0, 2, 9].into()),
            },
            Path::Stream(StreamId(1)),
        ];
        for path in elsewhere {
            assert_eq!(knock(&mut doorman, NOW, path, &second).reason(), DropReason::Cookie, "{path:?}");
        }
        assert_eq!(knock(&mut doorman, NOW + 90 * SECOND, udp(1), &second).reason(), DropReason::Cookie);
        let own = client.id;
        client.id = SessionId::new([9; 8]).unwrap();
        let other = client.second(ours);
        assert_eq!(knock(&mut doorman, NOW, udp(1), &other).reason(), DropReason::Cookie);
        client.id = own;
        let guessed = client.second(SessionId::new([9; 8]).unwrap());
        assert_eq!(knock(&mut doorman, NOW, udp(1), &guessed).reason(), DropReason::Cookie);
        knock(&mut doorman, NOW + 59 * SECOND, udp(1), &second).welcome();
    }
}

#[test]
fn second_packets_out_of_order_are_refused() {
    let (mut doorman, mut client, ours) = acquainted(&WrapConfig::None, &WrapConfig::None, None);
    let control = |acks: &[u32], ours, message| (Opcode::ControlV1, plain_body(acks, ours, Some(message)));
    let cases = [
        (control(&[], None, 1), DropReason::Cookie),
        (control(&[2], Some(ours), 1), DropReason::Cookie),
        (control(&[0, u32::MAX], Some(ours), 1), DropReason::Cookie),
        (control(&[0], Some(ours), 2), DropReason::Cookie),
        ((Opcode::AckV1, plain_body(&[2], Some(ours), None)), DropReason::Cookie),
        ((Opcode::AckV1, plain_body(&[], None, None)), DropReason::Cookie),
        ((Opcode::SoftResetV1, plain_body(&[0], Some(ours), Some(1))), DropReason::UnexpectedOpcode),
        ((Opcode::HardResetServerV2, plain_body(&[], None, Some(0))), DropReason::UnexpectedOpcode),
        ((Opcode::ControlWkcV1, plain_body(&[0], Some(ours), Some(1))), DropReason::UnexpectedOpcode),
        ((Opcode::HardResetClientV3, plain_body(&[], None, Some(0))), DropReason::UnexpectedOpcode),
        ((Opcode::HardResetClientV2, plain_body(&[], None, Some(1))), DropReason::Malformed),
    ];
    for ((opcode, body), expected) in cases {
        let packet = client.packet(opcode, &body);
        assert_eq!(knock(&mut doorman, NOW, udp(1), &packet).reason(), expected, "{opcode:?} {body:?}");
    }
    for key in 1..8 {
        for mut packet in [client.reset(), client.second(ours)] {
            packet[0] |= key;
            assert_eq!(knock(&mut doorman, NOW, udp(1), &packet).reason(), DropReason::WrongKeyId);
        }
    }
    for data in [0x30, 0x48] {
        assert_eq!(knock(&mut doorman, NOW, udp(1), &[data; 40]).reason(), DropReason::UnexpectedOpcode);
    }
    let mut nine = client.second(ours);
    nine[9] = 9;
    assert_eq!(knock(&mut doorman, NOW, udp(1), &nine).reason(), DropReason::TooManyAcks);
    assert_eq!(knock(&mut doorman, NOW, udp(1), &[]).reason(), DropReason::Malformed);
    let huge = vec![0x38; MAX_CONTROL_DATAGRAM + 1];
    assert_eq!(knock(&mut doorman, NOW, udp(1), &huge).reason(), DropReason::Malformed);
}

#[test]
fn truncated_and_flipped_packets_are_only_counted() {
    for (config, server, v2) in protections() {
        let (mut doorman, mut client, ours) = acquainted(&config, &server, v2.as_ref());
        let protected = !matches!(config, WrapConfig::None);
        for packet in [client.reset(), client.second(ours)] {
            for len in 0..packet.len() {
                let got = knock(&mut doorman, NOW, udp(1), &packet[..len]);
                assert!(matches!(got, Got::Drop(_)), "{len} bytes: {got:?}");
            }
            for bit in 0..packet.len() * 8 {
                let mut bent = packet.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                let got = knock(&mut doorman, NOW, udp(1), &bent);
                // Without protection a first packet with another session id is as good, and so is a second one
                // as a bare ack, or with the other of the two first acks or message ids.
                let as_good = match got {
                    Got::Reply(_) => (1..9).contains(&(bit / 8)),
                    Got::Welcome(..) => [3, 13 * 8, 25 * 8].contains(&bit),
                    Got::Drop(_) => true,
                };
                assert!(matches!(got, Got::Drop(_)) || (!protected && as_good), "bit {bit}: {got:?}");
            }
        }
    }
}

#[test]
fn replayed_first_packets_get_the_answer_they_got_before() {
    for (config, server, v2) in protections() {
        let (mut doorman, mut client) = (doorman(server, v2.as_ref()), Client::new(&config));
        let reset = client.reset();
        let reply = knock(&mut doorman, NOW, udp(1), &reset).reply();
        for _ in 0..20 {
            assert_eq!(knock(&mut doorman, NOW, udp(1), &reset).reply(), reply);
        }
    }
}

#[test]
fn a_replay_id_of_zero_begins_nothing() {
    let config = WrapConfig::TlsCrypt { key: key() };
    let (mut doorman, client, ours) = acquainted(&config, &config, None);
    let (mut body, mut second) = (Vec::new(), Vec::new());
    plain_body(&[0], Some(ours), Some(1)).emit(&mut body);
    let id = ReplayId { time: UNIX.as_secs() as u32, id: 0 };
    client.wrap.seal_as(id, 0x20, client.id, &body, &mut second);
    assert_eq!(knock(&mut doorman, NOW, udp(1), &second).reason(), DropReason::WrapReplay);
}
