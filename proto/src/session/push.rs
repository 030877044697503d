//! PUSH_REPLY and PUSH_UPDATE as text (`openvpn: push.c`, `send_push_options`).

/// Longest text of one message before the continuation mark: OpenVPN's buffer of 1,024 bytes less 84.
const MAX_TEXT: usize = 940;

/// Why options can't be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong(pub(super) String);

/// Room for [`MAX_TEXT`] and a continuation mark: text that grows leaves copies behind, and there may be a token in it.
const ROOM: usize = MAX_TEXT + 32;

/// Cuts options into messages that begin with `word`.
pub(super) fn messages<'a>(
    word: &str,
    options: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>, TooLong> {
    let mut done = Vec::new();
    let start = || {
        let mut text = String::with_capacity(ROOM);
        text.push_str(word);
        text
    };
    let mut text = start();
    for option in options {
        if word.len() + 1 + option.len() >= MAX_TEXT || option.contains(['\0', '\n', '\r']) {
            return Err(TooLong(option.chars().take(60).collect()));
        }
        if text.len() + 1 + option.len() >= MAX_TEXT {
            text.push_str(",push-continuation 2");
            done.push(core::mem::replace(&mut text, start()));
        }
        text.push(',');
        text.push_str(option);
    }
    if !done.is_empty() {
        text.push_str(",push-continuation 1");
    }
    done.push(text);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PullPolicy;
    use crate::options::push_reply::{PushAccumulator, PushState};

    #[test]
    fn short_lists_are_one_message() {
        let one = messages("PUSH_REPLY", ["ping 3", "peer-id 0"].into_iter()).unwrap();
        assert_eq!(one, ["PUSH_REPLY,ping 3,peer-id 0"]);
        assert_eq!(messages("PUSH_REPLY", [].into_iter()).unwrap(), ["PUSH_REPLY"]);
    }

    #[test]
    fn long_lists_are_continued_and_read_back() {
        let routes: Vec<String> = (0..200).map(|n| format!("route 10.{n}.0.0 255.255.0.0")).collect();
        let parts = messages("PUSH_REPLY", routes.iter().map(String::as_str)).unwrap();
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() < 1024), "{parts:?}");
        let mut push = PushAccumulator::new();
        for part in &parts[..parts.len() - 1] {
            assert!(part.ends_with(",push-continuation 2"));
            let text = part.strip_prefix("PUSH_REPLY").unwrap();
            assert!(matches!(push.feed(text, &PullPolicy::default()), Ok(PushState::More)));
        }
        let last = parts.last().unwrap().strip_prefix("PUSH_REPLY").unwrap();
        let Ok(PushState::Complete(reply)) = push.feed(last, &PullPolicy::default()) else {
            panic!("{last}")
        };
        assert_eq!(reply.options.len(), 200);
    }

    #[test]
    fn an_option_that_fits_nowhere_is_named() {
        let long = "x".repeat(1000);
        assert_eq!(messages("PUSH_REPLY", [long.as_str()].into_iter()), Err(TooLong("x".repeat(60))));
        assert!(messages("PUSH_REPLY", ["a\0b"].into_iter()).is_err());
    }
}
