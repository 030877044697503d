use super::*;

/// Seconds since 1970 at which the first token is issued.
const START: u64 = 0x6600_0000;
const HOUR: u64 = 3600;
const SERIES: Series = Series {
    session: [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab],
    begun: START,
};

fn secret() -> [u8; 32] {
    core::array::from_fn(|i| 64 + i as u8)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn config(lifetime: Option<u64>) -> TokenConfig {
    TokenConfig {
        lifetime: lifetime.map(Duration::from_secs),
        renewal: Duration::from_secs(HOUR),
        external: false,
        secret: Zeroizing::new(secret()),
    }
}

fn check(username: &str, password: &str, now: u64) -> TokenState {
    Checked::new(&config(None), username, password, None, at(now)).state
}

#[test]
fn agrees_with_the_reference_vector() {
    let token = SERIES.issue(&secret(), "alice", at(START + HOUR));
    assert_eq!(
        *token,
        "SESS_ID_AT_oKGio6SlpqeoqaqrAAAAAGYAAAAAAAAAZgAOEJP9EZfUIvcQxtwJH8cH5d074xtHxofmVbJ0l9cKQ/BY"
    );
    assert_eq!((token.len(), &token[11..27]), (91, &*SERIES.name()));
    let checked = Checked::new(&config(None), "alice", &token, Some(&SERIES), at(START + HOUR));
    assert_eq!(checked, Checked { state: TokenState::Authenticated, series: Some(SERIES) });
}

#[test]
fn is_good_for_two_renewals_from_its_issue() {
    let token = SERIES.issue(&secret(), "alice", at(START));
    for (now, expected) in [
        (START - 1, TokenState::Expired),
        (START, TokenState::Authenticated),
        (START + 2 * HOUR - 1, TokenState::Authenticated),
        (START + 2 * HOUR, TokenState::Expired),
        (u64::MAX, TokenState::Expired),
    ] {
        assert_eq!(check("alice", &token, now), expected, "{now}");
    }
}

#[test]
fn renewals_do_not_prolong_its_life() {
    let late = SERIES.issue(&secret(), "alice", at(START + 5 * HOUR));
    let state = |now| Checked::new(&config(Some(5 * HOUR)), "alice", &late, None, at(now));
    assert_eq!(state(START + 5 * HOUR).state, TokenState::Authenticated);
    assert_eq!(state(START + 5 * HOUR + 1), Checked { state: TokenState::Expired, series: None });
    let before_begin = SERIES.issue(&secret(), "alice", at(START - 1));
    assert_eq!(check("alice", &before_begin, START), TokenState::Expired);
}

#[test]
fn names_and_passwords_decide_the_state() {
    let token = SERIES.issue(&secret(), "alice", at(START));
    let nameless = SERIES.issue(&secret(), "", at(START));
    assert_eq!(check("alice", "secret", START), TokenState::Initial);
    assert_eq!(check("alice", "", START), TokenState::Initial);
    assert_eq!(check("alice", "SESS_ID_AT_", START), TokenState::Invalid);
    assert_eq!(check("alice", &format!("{}=", &*token), START), TokenState::Invalid);
    assert_eq!(check("bob", &token, START), TokenState::Invalid);
    assert_eq!(check("", &token, START), TokenState::Invalid);
    assert_eq!(check("bob", &nameless, START), TokenState::AuthenticatedEmptyUser);
    assert_eq!(check("bob", &nameless, START + 3 * HOUR), TokenState::ExpiredEmptyUser);
    assert_eq!(check("", &nameless, START), TokenState::Authenticated);
}

#[test]
fn no_changed_token_is_taken() {
    let token = SERIES.issue(&secret(), "alice", at(START));
    for at in PREFIX.len()..token.len() {
        let mut bent = token.as_bytes().to_vec();
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        let bent = String::from_utf8(bent).unwrap();
        assert_eq!(check("alice", &bent, START), TokenState::Invalid, "{at}");
    }
    let other = SERIES.issue(&[9; 32], "alice", at(START));
    assert_eq!(check("alice", &other, START), TokenState::Invalid);
}

#[test]
fn a_session_keeps_its_series() {
    let other = Series { session: [1; SESSION_LEN], ..SERIES };
    let token = other.issue(&secret(), "alice", at(START));
    let checked = Checked::new(&config(None), "alice", &token, Some(&SERIES), at(START));
    assert_eq!(checked, Checked { state: TokenState::Invalid, series: None });
    let checked = Checked::new(&config(None), "alice", &token, None, at(START));
    assert_eq!(checked.series, Some(other));
}

#[test]
fn secret_is_a_part_of_its_file() {
    let pem = |bytes: &[u8]| {
        let text = STANDARD.encode(bytes);
        format!(
            "-----BEGIN OpenVPN auth-token server key-----\n{text}\n-----END OpenVPN auth-token server key-----\n"
        )
    };
    let file: [u8; 128] = core::array::from_fn(|i| i as u8);
    assert_eq!(*secret_from_pem(&pem(&file)).unwrap(), secret());
    let error = secret_from_pem(&pem(&file[1..])).unwrap_err().to_string();
    assert!(error.contains("there are 127 bytes, not 128") && error.contains("genkey auth-token"), "{error}");
}
