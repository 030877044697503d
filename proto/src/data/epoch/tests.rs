use super::*;
use crate::data::slot::{HEADROOM, Slot, TAILROOM};

const CIPHER: DataCipher = DataCipher::Aes128Gcm;
const FORMAT: DataFormat = DataFormat::Epoch(crate::wire::ids::PeerId::from_low_bits(7));
const NOW: Instant = Instant::ZERO;

fn counting() -> Chain {
    Chain::first(&core::array::from_fn(|i| i as u8))
}

fn sender() -> SendChain {
    SendChain::new(counting(), CIPHER, FORMAT, KeyId::FIRST, &Bounds::of(CIPHER))
}

fn receiver(bounds: &Bounds) -> EpochReceiver {
    EpochReceiver::new(counting(), CIPHER, ReplayWindow::DEFAULT, bounds)
}

fn seal(key: &Arc<SendKey>) -> Vec<u8> {
    let mut buf = [9; HEADROOM + 20 + TAILROOM];
    let span = key.permit(1).unwrap().seal(&mut Slot::new(&mut buf, HEADROOM, 20)).unwrap();
    buf[span].to_vec()
}

fn open(receiver: &mut EpochReceiver, packet: &[u8]) -> Result<(), DropReason> {
    let mut packet = packet.to_vec();
    let span = receiver.open(NOW, &mut packet)?;
    assert_eq!(packet[span], [9; 20]);
    Ok(())
}

fn expand(secret: &str, label: &[u8], len: usize) -> String {
    let secret = hex::decode(secret).unwrap().try_into().unwrap();
    let mut out = vec![0; len];
    expand_label(&secret, label, &mut out);
    hex::encode(out)
}

/// Values of the unit tests of OpenVPN (`openvpn: tests/unit_tests/openvpn/test_crypto.c`).
#[test]
fn labels_expand_as_in_openvpn() {
    let secret = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
    assert_eq!(expand(secret, b"unit test", 27), "875a8eec18556380b8d933ed323c2df8e8eccf4972e683f06a83ac");
    assert_eq!(expand(secret, b"unit test", 16), "185eaa1c7f228ab8eb29773214d92046");
    let mut slice = [0; 64];
    slice[..2].copy_from_slice(&[19, 12]);
    let (key, iv) = Chain::first(&slice).material(DataCipher::Aes192Gcm);
    assert_eq!(hex::encode(&key[..24]), "ed8533db1c28ace418e9006ab29c17417d60ebe6cd90bf0a");
    assert_eq!(hex::encode(*iv), "86890aabf032cb59f4cfa34e");
}

#[test]
fn keys_of_the_first_epochs() {
    let expected = [
        (
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "ebbbf838a8658beb56f2324d691351bd4c8c230fb271ada8f67de830b7ee3192",
            "c0b015350de890ee8e1849d2c29a1b94",
            "568de14f8f744bfb0b721f66",
        ),
        (
            "e35bffa31e2723bf09e8d394fa9171ca4e534553bffa1d3482de4c9b3bc639d7",
            "4010426e3e169cd80289883d7f38d7eee445ead5fa21812fabebe155a4408ee5",
            "2586116e6e44094e7e8659d311948333",
            "9caaa619cb6277bbb0e90c48",
        ),
        (
            "f42019f62ea8cd6a2dc9e3e0778903253a1320d2c87f27e15e0494b796665101",
            "97262f79e388a314377b63881143f2490755d3396aa5c4fe98ab8384318cc859",
            "4254f2a6c4ab003f3857ab2e4c25bf53",
            "cd8fc5d76f8d9e1d521e6401",
        ),
    ];
    let mut chain = counting();
    for (secret, key32, key16, iv) in expected {
        assert_eq!(hex::encode(*chain.secret), secret);
        for cipher in [DataCipher::Aes256Gcm, DataCipher::ChaCha20Poly1305] {
            assert_eq!(hex::encode(*chain.material(cipher).0), key32);
        }
        assert_eq!(hex::encode(&chain.material(DataCipher::Aes128Gcm).0[..16]), key16);
        assert_eq!(hex::encode(*chain.material(DataCipher::Aes128Gcm).1), iv);
        chain.advance();
    }
}

/// Epochs 1 and 2 of the key block that the "PRF data keys" vector derives, client to server.
#[test]
fn keys_from_a_real_key_block() {
    let secret = "5083f6ce6e319037168e5cd5d21f9a5b31d696e2dc7a161dadeaaefbeb518fa8";
    let mut slice = [0; 64];
    slice[..32].copy_from_slice(&hex::decode(secret).unwrap());
    let mut chain = Chain::first(&slice);
    let (key, iv) = chain.material(DataCipher::Aes256Gcm);
    assert_eq!(hex::encode(*key), "20c652e176ffabc97678f3177e0b2e2e92878cd0fd18fc8ba8dd5ac78de05a50");
    assert_eq!(hex::encode(*iv), "bbe303c6a35a5287beaca556");
    chain.advance();
    assert_eq!(
        hex::encode(*chain.secret),
        "6769fcf49354636f4f25e1280bd5d603e31a11e1e8ff806ea115efdce495511a"
    );
    let (key, iv) = chain.material(DataCipher::Aes256Gcm);
    assert_eq!(hex::encode(*key), "c7be81169ad8dda13a38ca39a05d8ce601b769b191f05bda6adb242c3bdda655");
    assert_eq!(hex::encode(*iv), "28a5cb6d6744b4a1102dce10");
}

#[test]
fn a_sealed_packet_of_the_second_epoch_is_bit_exact() {
    let peer = crate::wire::ids::PeerId::from_low_bits(0x12_3456);
    let mut chain = SendChain::new(
        counting(),
        DataCipher::Aes256Gcm,
        DataFormat::Epoch(peer),
        KeyId::FIRST,
        &Bounds::of(DataCipher::Aes256Gcm),
    );
    let key = chain.raise(2);
    let mut buf = [0; HEADROOM + 16 + TAILROOM];
    buf[HEADROOM..HEADROOM + 16].copy_from_slice(&crate::data::inner::PING);
    let span = key.permit(1).unwrap().seal(&mut Slot::new(&mut buf, HEADROOM, 16)).unwrap();
    assert_eq!(
        hex::encode(&buf[span]),
        "481234560002000000000001b2b1afbd0d32ea732be948cf8ca9d09aa2102a0abd4adf755451ac1f94581e9d"
    );
}

#[test]
fn the_present_and_four_later_epochs_are_taken() {
    let bounds = Bounds::of(CIPHER);
    for (epoch, expected) in [(1, Ok(())), (2, Ok(())), (5, Ok(())), (6, Err(DropReason::WrongEpoch))] {
        let mut chain = sender();
        let key = if epoch == 1 { chain.make_key() } else { chain.raise(epoch) };
        let mut receiver = receiver(&bounds);
        assert_eq!(open(&mut receiver, &seal(&key)), expected, "{epoch}");
        assert_eq!(receiver.epoch(), if expected.is_ok() { epoch } else { 1 });
    }
}

#[test]
fn epoch_zero_and_counter_zero_are_refused() {
    let mut receiver = receiver(&Bounds::of(CIPHER));
    let mut packet = seal(&sender().make_key());
    packet[4..6].fill(0);
    assert_eq!(open(&mut receiver, &packet), Err(DropReason::WrongEpoch));
    for epoch in [1, 3] {
        packet[5] = epoch;
        packet[6..12].fill(0);
        assert_eq!(open(&mut receiver, &packet), Err(DropReason::DataReplay));
    }
}

#[test]
fn a_forged_future_epoch_changes_nothing() {
    let mut receiver = receiver(&Bounds::of(CIPHER));
    let mut chain = sender();
    let now = seal(&chain.make_key());
    let mut later = seal(&chain.raise(3));
    *later.last_mut().unwrap() ^= 1;
    assert_eq!(open(&mut receiver, &later), Err(DropReason::DataAuthentication));
    assert_eq!(receiver.epoch(), 1);
    assert_eq!(open(&mut receiver, &now), Ok(()));
}

/// The key of an epoch to come is made anew for each packet; its count of forgeries is kept.
#[test]
fn forgeries_of_a_future_epoch_add_up() {
    let mut receiver = receiver(&Bounds { forgeries_hard: 3, ..Bounds::of(CIPHER) });
    let mut chain = sender();
    let third = chain.raise(3);
    let good = seal(&third);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..4 {
        assert_eq!(open(&mut receiver, &forged), Err(DropReason::DataAuthentication));
    }
    assert_eq!(open(&mut receiver, &good), Err(DropReason::KeyWorn));
    assert_eq!(open(&mut receiver, &seal(&chain.raise(4))), Ok(()), "other epochs have counts of their own");
}

#[test]
fn one_old_epoch_is_kept_with_its_window() {
    let mut receiver = receiver(&Bounds::of(CIPHER));
    let mut chain = sender();
    let first = chain.make_key();
    let old: Vec<_> = (0..4).map(|_| seal(&first)).collect();
    let second = chain.raise(2);
    assert_eq!(open(&mut receiver, &old[0]), Ok(()));
    assert_eq!(open(&mut receiver, &seal(&second)), Ok(()));
    // Same counters as in epoch 1, and an own window for each.
    assert_eq!(open(&mut receiver, &old[0]), Err(DropReason::DataReplay));
    assert_eq!(open(&mut receiver, &old[1]), Ok(()));
    let third = chain.raise(3);
    assert_eq!(open(&mut receiver, &seal(&third)), Ok(()));
    assert_eq!(open(&mut receiver, &old[2]), Err(DropReason::WrongEpoch));
    assert_eq!(open(&mut receiver, &seal(&second)), Ok(()));
}

#[test]
fn skipped_epochs_are_lost() {
    let mut receiver = receiver(&Bounds::of(CIPHER));
    let mut chain = sender();
    let first = chain.make_key();
    let second = chain.raise(2);
    let fourth = chain.raise(4);
    assert_eq!(open(&mut receiver, &seal(&fourth)), Ok(()));
    assert_eq!(open(&mut receiver, &seal(&second)), Err(DropReason::WrongEpoch));
    assert_eq!(open(&mut receiver, &seal(&first)), Ok(()));
}

#[test]
fn the_last_epoch_is_the_last() {
    let bounds = Bounds { epoch_last: 6, ..Bounds::of(CIPHER) };
    let mut receiver = receiver(&bounds);
    let mut chain = sender();
    for epoch in 2..=6 {
        assert_eq!(open(&mut receiver, &seal(&chain.raise(epoch))), Ok(()));
    }
    assert_eq!(open(&mut receiver, &seal(&chain.raise(7))), Err(DropReason::WrongEpoch));
}
