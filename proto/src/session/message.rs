//! Text messages of the control channel (`openvpn: forward.c`, `parse_incoming_control_channel_command`).

use zeroize::Zeroizing;

use crate::event::Advance;

/// A message from the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlMessage {
    /// `PUSH_REPLY`: the text after the word, with its comma. There may be a token in it.
    PushReply(Zeroizing<String>),
    /// `AUTH_FAILED`: the text after the comma.
    AuthFailed(String),
    /// `AUTH_FAILED,TEMP`.
    AuthTemporary { backoff: Option<u32>, advance: Advance, reason: String },
    /// `AUTH_PENDING`, with the number of seconds to wait if one is given.
    AuthPending(Option<u32>),
    /// `RESTART`.
    Restart { keep_credentials: bool, advance: bool, reason: String },
    /// `HALT`.
    Halt(String),
    /// `INFO` or `INFO_PRE`: the whole message.
    Info(String),
    /// `PUSH_REQUEST`.
    PushRequest,
    /// `CR_RESPONSE`: the text after the comma.
    ChallengeResponse(Zeroizing<String>),
    /// `EXIT`.
    Exit,
    /// Anything else.
    Unknown,
}

impl ControlMessage {
    /// Splits a record into its messages. Each ends with a NUL; text without one is dropped, and so are
    /// messages with control characters. CR and LF before the NUL are taken off.
    pub(crate) fn parse_record(record: &[u8]) -> impl Iterator<Item = Option<Self>> + '_ {
        let end = record.iter().rposition(|&b| b == 0);
        let messages = end.map_or(&[][..], |end| &record[..end]);
        let missing_nul = end.is_none_or(|end| end + 1 != record.len());
        let complete = end.is_some().then(|| messages.split(|&b| b == 0).map(Self::parse));
        complete.into_iter().flatten().chain(missing_nul.then_some(None))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(bytes).ok()?.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        let after = |word: &str| text.strip_prefix(word);
        Some(if let Some(rest) = after("AUTH_FAILED") {
            Self::auth_failed(rest.strip_prefix(',').unwrap_or(""))
        } else if text == "PUSH_REQUEST" {
            Self::PushRequest
        } else if let Some(rest) = after("CR_RESPONSE,") {
            Self::ChallengeResponse(Zeroizing::new(rest.into()))
        } else if let Some(rest) = after("PUSH_REPLY") {
            Self::PushReply(Zeroizing::new(rest.into()))
        } else if let Some(rest) = after("RESTART") {
            Self::restart(rest)
        } else if let Some(rest) = after("HALT") {
            Self::Halt(rest.trim_start_matches(',').into())
        } else if text.starts_with("INFO") {
            Self::Info(text.into())
        } else if let Some(rest) = after("AUTH_PENDING") {
            let seconds = rest.split(',').find_map(|word| word.strip_prefix("timeout "));
            Self::AuthPending(seconds.and_then(|n| n.trim().parse().ok()))
        } else if text.starts_with("EXIT") {
            Self::Exit
        } else {
            Self::Unknown
        })
    }

    /// `TEMP[flag,flag]:text` (`openvpn: push.c`, `parse_auth_failed_temp`).
    fn auth_failed(reason: &str) -> Self {
        let Some(rest) = reason.strip_prefix("TEMP") else {
            return Self::AuthFailed(reason.into());
        };
        let (flags, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some(split) => split,
            None => ("", rest),
        };
        let (mut backoff, mut advance) = (None, Advance::No);
        for flag in flags.split(',') {
            if let Some(seconds) = flag.strip_prefix("backoff ") {
                backoff = seconds.parse().ok();
            } else if let Some(to) = flag.strip_prefix("advance ") {
                advance = match to {
                    "addr" => Advance::Address,
                    "remote" => Advance::Remote,
                    _ => Advance::No,
                };
            }
        }
        Self::AuthTemporary { backoff, advance, reason: rest.trim_start_matches(':').into() }
    }

    /// `RESTART[,[flags]text]`: P keeps the credentials, N goes to the next server
    /// (`openvpn: push.c`, `server_pushed_signal`).
    fn restart(rest: &str) -> Self {
        let rest = rest.strip_prefix(',').unwrap_or(rest);
        let (flags, reason) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some(split) => split,
            None => ("", rest),
        };
        Self::Restart {
            keep_credentials: flags.contains('P'),
            advance: flags.contains('N'),
            reason: reason.trim_start_matches(':').into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(record: &[u8]) -> Vec<Option<ControlMessage>> {
        ControlMessage::parse_record(record).collect()
    }

    #[test]
    fn several_messages_of_one_record_are_split() {
        let messages = parse(b"INFO_PRE,CR_TEXT:E:code\0PUSH_REPLY,ping 3\0");
        assert_eq!(
            messages,
            [
                Some(ControlMessage::Info("INFO_PRE,CR_TEXT:E:code".into())),
                Some(ControlMessage::PushReply(Zeroizing::new(",ping 3".into())))
            ]
        );
    }

    #[test]
    fn text_without_nul_or_with_control_characters_is_dropped() {
        assert_eq!(parse(b"EXIT"), [None]);
        assert_eq!(parse(b"EXIT\0HALT"), [Some(ControlMessage::Exit), None]);
        assert_eq!(parse(b"INFO,\x1b[31m\0"), [None]);
        assert_eq!(parse(b""), [None]);
        assert_eq!(parse(b"HALT\r\n\0"), [Some(ControlMessage::Halt(String::new()))]);
    }

    #[test]
    fn flags_are_read_as_the_server_writes_them() {
        let restart = |keep_credentials, advance, reason: &str| {
            [Some(ControlMessage::Restart { keep_credentials, advance, reason: reason.into() })]
        };
        assert_eq!(parse(b"RESTART\0"), restart(false, false, ""));
        assert_eq!(parse(b"RESTART,[N]\0"), restart(false, true, ""));
        assert_eq!(parse(b"RESTART,[P]:text\0"), restart(true, false, "text"));
        assert_eq!(parse(b"RESTART,server will be down\0"), restart(false, false, "server will be down"));

        let temporary = |backoff, advance, reason: &str| {
            [Some(ControlMessage::AuthTemporary { backoff, advance, reason: reason.into() })]
        };
        assert_eq!(parse(b"AUTH_FAILED,TEMP\0"), temporary(None, Advance::No, ""));
        assert_eq!(
            parse(b"AUTH_FAILED,TEMP[backoff 7,advance remote]:busy\0"),
            temporary(Some(7), Advance::Remote, "busy")
        );
        assert_eq!(
            parse(b"AUTH_FAILED,TEMP[backoff 7, advance addr]:x\0"),
            temporary(Some(7), Advance::No, "x")
        );
        assert_eq!(parse(b"AUTH_FAILED\0"), [Some(ControlMessage::AuthFailed(String::new()))]);
        assert_eq!(
            parse(b"AUTH_FAILED,SESSION: token expired\0"),
            [Some(ControlMessage::AuthFailed("SESSION: token expired".into()))]
        );
        assert_eq!(parse(b"AUTH_PENDING,timeout 30\0"), [Some(ControlMessage::AuthPending(Some(30)))]);
    }
}
