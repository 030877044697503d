use std::collections::BTreeSet;

use super::*;
use crate::data::{HEADROOM, RecvKey, TAILROOM};
use crate::wire::ids::PeerId;

fn key(last: u64) -> Arc<SendKey> {
    Arc::new(SendKey::new(SendKeyParts {
        cipher: DataCipher::Aes192Gcm,
        material: &[7; 64],
        iv: Zeroizing::new([0; NONCE_LEN]),
        format: DataFormat::V2(PeerId::UNDEFINED),
        key: KeyId::FIRST,
        epoch: 0,
        last,
    }))
}

fn id(permit: &mut SendPermit) -> Result<u32, SealError> {
    let mut buf = [1; HEADROOM + 20 + TAILROOM];
    let span = permit.seal(&mut Slot::new(&mut buf, HEADROOM, 20))?;
    Ok(u32::from_be_bytes(buf[span.start + 4..span.start + 8].try_into().unwrap()))
}

#[test]
fn a_permit_seals_as_many_packets_as_it_says() {
    let key = key(100);
    let mut permit = key.permit(3).unwrap();
    let mut part = permit.split(2);
    assert_eq!((part.remaining(), permit.remaining()), (2, 1));
    assert_eq!(id(&mut permit), Ok(3));
    assert_eq!(id(&mut permit), Err(SealError::Spent(KeySpent)));
    assert_eq!([id(&mut part), id(&mut part)], [Ok(1), Ok(2)]);
    assert_eq!(id(&mut part), Err(SealError::Spent(KeySpent)));
    assert_eq!(id(&mut key.permit(1).unwrap()), Ok(4));
}

#[test]
#[should_panic(expected = "permit has only 1 ids left")]
fn a_permit_gives_no_more_than_it_has() {
    let _ = key(100).permit(1).unwrap().split(2);
}

#[test]
fn all_or_none_up_to_the_last_id() {
    let key = key(10);
    assert!(key.permit(11).is_err());
    assert_eq!(key.permit(9).unwrap().remaining(), 9);
    assert!(key.permit(2).is_err());
    assert_eq!(id(&mut key.permit(1).unwrap()), Ok(10));
    assert!(key.permit(1).is_err());
    assert!(key.permit(u32::MAX).is_err());
}

#[test]
fn threads_never_share_an_id_nor_cross_the_end() {
    const LAST: u64 = 1000;
    let key = key(LAST);
    let taken: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=4)
            .map(|n| {
                let key = &key;
                scope.spawn(move || {
                    let mut ids = Vec::new();
                    while let Ok(permit) = key.permit(n) {
                        ids.extend(permit.next..permit.end);
                    }
                    ids
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    let unique: BTreeSet<u64> = taken.iter().copied().collect();
    assert_eq!(unique.len(), taken.len());
    // The worker that asks for one id at a time takes what the others leave.
    assert!(unique.into_iter().eq(1..=LAST));
}

#[test]
fn keys_can_be_shared_and_show_nothing() {
    const fn shared<T: Send + Sync>() {}
    const { shared::<Arc<SendKey>>() }
    const { shared::<RecvKey>() }
    const { shared::<crate::data::Table>() }
    let key = key(10);
    assert_eq!(format!("{key:?}"), "SendKey([redacted])");
    assert!(format!("{:?}", key.permit(1)).contains("[redacted]"));
}

/// What a caller must leave free, it can ask for.
#[test]
fn a_slot_tells_the_room_around_its_payload() {
    let mut buf = [0; 100];
    let mut slot = Slot::new(&mut buf, 30, 50);
    assert_eq!((slot.headroom(), slot.payload().len(), slot.tailroom()), (30, 50, 20));
    // V2 puts 24 bytes in front: 30 are enough, 23 are not.
    assert!(key(9).permit(1).unwrap().seal(&mut slot).is_ok());
    let mut slot = Slot::new(&mut buf, 23, 50);
    assert_eq!(key(9).permit(1).unwrap().seal(&mut slot), Err(SealError::NoRoom));
}
