//! Records of the control channel and the messages in them.

use crate::session::message::ControlMessage;

/// `data` is one record.
pub fn run(data: &[u8]) {
    let whole: Vec<_> = ControlMessage::parse_record(data).collect();
    assert!(whole.len() <= data.iter().filter(|&&byte| byte == 0).count() + 1);
    whole.iter().flatten().for_each(|message| check(message, data.len()));

    // One record with many messages says the same as many records with one each.
    let single = |part: &[u8]| ControlMessage::parse_record(part).collect::<Vec<_>>();
    let apart: Vec<_> = data.split_inclusive(|&byte| byte == 0).flat_map(single).collect();
    if !data.is_empty() {
        assert_eq!(apart, whole);
    }
}

fn check(message: &ControlMessage, len: usize) {
    let text = match message {
        ControlMessage::PushReply(text) | ControlMessage::ChallengeResponse(text) => text.as_str(),
        ControlMessage::AuthFailed(text)
        | ControlMessage::AuthTemporary { reason: text, .. }
        | ControlMessage::Restart { reason: text, .. }
        | ControlMessage::Halt(text)
        | ControlMessage::Info(text) => text,
        ControlMessage::AuthPending(_)
        | ControlMessage::PushRequest
        | ControlMessage::Exit
        | ControlMessage::Unknown => return,
    };
    assert!(text.len() < len);
    assert!(!text.chars().any(char::is_control), "a terminal could obey {text:?}");
}
