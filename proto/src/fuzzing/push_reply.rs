//! PUSH_REPLY in any number of parts, under any `pull-filter`.

use crate::config::{FilterAction, PullPolicy};
use crate::limits::{MAX_PUSH_BYTES, MAX_PUSH_OPTIONS};
use crate::options::push_reply::{PushAccumulator, PushState};

/// First byte: policy. Then messages, separated by NUL; the first is the prefix that filters look for.
pub fn run(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let mut messages = text.split('\0');
    let filter = messages.next().unwrap_or_default();
    let action = match choice & 3 {
        1 => Some(FilterAction::Accept),
        2 => Some(FilterAction::Ignore),
        3 => Some(FilterAction::Reject),
        _ => None,
    };
    let policy = PullPolicy {
        filters: action.map(|action| (action, filter.to_string())).into_iter().collect(),
        no_routes: choice & 4 != 0,
    };
    let mut parts = PushAccumulator::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.len();
        match parts.feed(message, &policy) {
            Ok(PushState::More) => {}
            Ok(PushState::Complete(reply)) => {
                assert!(bytes <= MAX_PUSH_BYTES);
                assert!(reply.options.len() + reply.ignored.len() <= MAX_PUSH_OPTIONS);
                assert!(reply.ignored.iter().all(|line| !line.contains('\n') && line.len() < 2000));
                assert!(
                    action != Some(FilterAction::Reject) || reply.options.is_empty() || !filter.is_empty()
                );
                bytes = 0;
            }
            Err(_) => bytes = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const WORDS: [&str; 12] = [
        ",",
        "\0",
        "push-continuation 2",
        "route ",
        "10.0.0.1 ",
        "255.0.0.0 ",
        "default ",
        "ping 1",
        "\"",
        "\\",
        "auth-token x",
        "ifconfig ",
    ];

    proptest! {
        #[test]
        fn random_bytes(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::run(&data);
        }

        #[test]
        fn random_words(choice in any::<u8>(), picks in proptest::collection::vec(0..WORDS.len(), 0..60)) {
            let mut data = vec![choice];
            for pick in picks {
                data.extend_from_slice(WORDS[pick].as_bytes());
            }
            super::run(&data);
        }
    }
}
