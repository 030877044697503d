//! Frames of a TCP stream that arrives in pieces.

use crate::wire::stream::{Deframer, frame_header};

/// Small, so that inputs reach both sides of it.
const LIMIT: usize = 300;

/// The first byte of `data` sets the size of the pieces, the rest is the stream.
pub fn run(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let deframer = Deframer::new(LIMIT);
    let whole = collect(&deframer, stream.to_vec());
    assert_eq!(in_pieces(&deframer, stream, usize::from(piece) + 1), whole);

    let mut encoded = Vec::new();
    for frame in &whole.frames {
        encoded.extend(frame_header(frame.len()).expect("a frame that was read has a legal length"));
        encoded.extend_from_slice(frame);
    }
    assert_eq!(encoded, stream[..encoded.len()]);
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    frames: Vec<Vec<u8>>,
    failed: bool,
}

fn collect(deframer: &Deframer, mut bytes: Vec<u8>) -> Outcome {
    let mut outcome = Outcome { frames: Vec::new(), failed: false };
    for frame in deframer.frames(&mut bytes) {
        match frame {
            Ok(frame) => outcome.frames.push(frame.to_vec()),
            Err(_) => outcome.failed = true,
        }
    }
    outcome
}

/// As a driver does it: one fixed buffer, reads of `piece` bytes, the rest moved to the front.
fn in_pieces(deframer: &Deframer, mut stream: &[u8], piece: usize) -> Outcome {
    let mut buffer = vec![0; deframer.buffer_len()];
    let mut filled = 0;
    let mut outcome = Outcome { frames: Vec::new(), failed: false };
    while !stream.is_empty() && !outcome.failed {
        let read = piece.min(buffer.len() - filled).min(stream.len());
        assert!(read > 0, "a full buffer without a frame in it");
        buffer[filled..filled + read].copy_from_slice(&stream[..read]);
        stream = &stream[read..];
        filled += read;
        let mut frames = deframer.frames(&mut buffer[..filled]);
        for frame in frames.by_ref() {
            match frame {
                Ok(frame) => outcome.frames.push(frame.to_vec()),
                Err(_) => outcome.failed = true,
            }
        }
        let consumed = frames.consumed();
        buffer.copy_within(consumed..filled, 0);
        filled -= consumed;
    }
    outcome
}
