//! What applications send: bytes that follow from a seed and a place, so that a receiver can check each of them.

use xxhash_rust::xxh3::xxh3_64;

/// Length of the head of a stamped packet: seed, number, check, 8 bytes each.
pub(super) const STAMP_LEN: usize = 24;

/// Word `index` of the content of `seed` (the output function of SplitMix64).
const fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Calls `each` with the pieces of `len` bytes of content from `offset` on: where a piece is in them, the word it is
/// of, and which bytes of that word.
fn pieces(seed: u64, offset: u64, len: usize, mut each: impl FnMut(usize, &[u8])) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let bytes = word(seed, at / 8).to_le_bytes();
        let skip = (at % 8) as usize;
        let piece = &bytes[skip..bytes.len().min(skip + len - done)];
        each(done, piece);
        done += piece.len();
    }
}

/// Writes the content of `seed` from `offset` on.
pub(super) fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    pieces(seed, offset, out.len(), |at, piece| out[at..at + piece.len()].copy_from_slice(piece));
}

/// How many bytes are not the content of `seed` from `offset` on.
pub(super) fn differences(seed: u64, offset: u64, bytes: &[u8]) -> u64 {
    let mut count = 0;
    pieces(seed, offset, bytes.len(), |at, piece| {
        let got = &bytes[at..at + piece.len()];
        if got != piece {
            count += got.iter().zip(piece).filter(|(a, b)| a != b).count() as u64;
        }
    });
    count
}

/// Fills a packet that carries its seed and number, and stands for itself.
///
/// `out` must hold [`STAMP_LEN`] bytes.
pub(super) fn stamp(seed: u64, number: u64, out: &mut [u8]) {
    let len = out.len() as u64;
    let (head, body) = out.split_at_mut(STAMP_LEN);
    head.copy_from_slice(&head_of(seed, number, len));
    fill(seed ^ number.rotate_left(32), 0, body);
}

/// Seed and number of a stamped packet; `None` if anything of it is not as it was sent.
pub(super) fn read(packet: &[u8]) -> Option<(u64, u64)> {
    let head = packet.first_chunk::<STAMP_LEN>()?;
    let (seed, number) = (read_u64(head, 0)?, read_u64(head, 8)?);
    let intact = *head == head_of(seed, number, packet.len() as u64)
        && differences(seed ^ number.rotate_left(32), 0, &packet[STAMP_LEN..]) == 0;
    intact.then_some((seed, number))
}

fn head_of(seed: u64, number: u64, len: u64) -> [u8; STAMP_LEN] {
    sealed([seed, number], len)
}

/// `words` in bytes with a check over them and `extra` behind them. `LEN` is their length and 8 more.
pub(super) fn sealed<const WORDS: usize, const LEN: usize>(words: [u64; WORDS], extra: u64) -> [u8; LEN] {
    const { assert!(LEN == WORDS * 8 + 8) };
    let mut out = [0; LEN];
    for (bytes, word) in out.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    // What is hashed holds `extra` in the place of the check.
    out[LEN - 8..].copy_from_slice(&extra.to_le_bytes());
    let check = xxh3_64(&out);
    out[LEN - 8..].copy_from_slice(&check.to_le_bytes());
    out
}

/// The number at `offset`.
pub(super) fn read_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_in_all_cuts() {
        let mut whole = [0; 100];
        fill(7, 1000, &mut whole);
        for cut in 0..100 {
            let (mut a, mut b) = (vec![0; cut], vec![0; 100 - cut]);
            fill(7, 1000, &mut a);
            fill(7, 1000 + cut as u64, &mut b);
            assert_eq!([a, b].concat(), whole, "cut at {cut}");
        }
        assert_eq!(differences(7, 1000, &whole), 0);
        assert!(differences(8, 1000, &whole) > 90);
        whole[3] ^= 1;
        whole[50] ^= 0x80;
        assert_eq!(differences(7, 1000, &whole), 2);
    }

    #[test]
    fn every_bit_of_a_stamped_packet_counts() {
        let mut packet = [0; 60];
        stamp(3, 9, &mut packet);
        assert_eq!(read(&packet), Some((3, 9)));
        for bit in 0..60 * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&packet), None, "bit {bit}");
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        assert!((0..60).all(|len| read(&packet[..len]).is_none()));
    }
}
