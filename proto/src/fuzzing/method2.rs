//! The server's key-method-2 message, whole and as far as it has come.

use crate::keys::method2::{Method2Error, ServerMessage};
use crate::limits::{MAX_OPTIONS_STRING, MAX_TLS_PLAINTEXT};

/// The first two bytes of `data` say where the message is cut, the rest is the message.
pub fn run(data: &[u8]) {
    let Some((&[high, low], message)) = data.split_first_chunk() else { return };
    let whole = ServerMessage::parse(message);
    check(message, &whole);
    let cut = usize::from(u16::from_be_bytes([high, low])) % (message.len() + 1);
    let part = ServerMessage::parse(&message[..cut]);
    check(&message[..cut], &part);
    // What has arrived decides as soon as it can, and nothing that follows changes that.
    match (part, whole) {
        (Err(Method2Error::Incomplete), _) => {}
        (Err(early), late) => assert_eq!(Some(early), late.err()),
        (Ok(early), late) => {
            let late = late.expect("the message was already complete");
            assert_eq!(early.source.random1, late.source.random1);
            assert_eq!(early.source.random2, late.source.random2);
            assert_eq!(early.options, late.options);
        }
    }
}

fn check(message: &[u8], read: &Result<ServerMessage, Method2Error>) {
    match read {
        Ok(read) => {
            assert_eq!(message[4] & 0x0f, 2);
            assert_eq!(&message[5..37], &*read.source.random1);
            assert_eq!(&message[37..69], &*read.source.random2);
            for (text, max) in [(&read.options, MAX_OPTIONS_STRING), (&read.peer_info, MAX_TLS_PLAINTEXT)] {
                // A byte that is no UTF-8 becomes a character of three bytes.
                assert!(text.len() <= 3 * max);
                assert!(!text.contains('\0'));
            }
        }
        Err(Method2Error::Incomplete) => assert!(message.len() < 5 + 64 + 2 + MAX_OPTIONS_STRING),
        Err(Method2Error::Method) => assert_ne!(message[4] & 0x0f, 2),
        Err(Method2Error::TooLong) => assert!(message.len() >= 5 + 64 + 2),
    }
}
