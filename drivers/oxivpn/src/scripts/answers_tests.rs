use std::fs;

use oxivpn_profile::server::ScriptOptions;

use super::super::Scripts;
use super::*;

struct Bench {
    dir: tempfile::TempDir,
    env: Environment,
    scripts: Scripts,
}

impl Bench {
    fn new() -> Self {
        let options = ScriptOptions { security: 3, ..ScriptOptions::default() };
        Self {
            dir: tempfile::tempdir().unwrap(),
            env: Environment::new(),
            scripts: Scripts::new(&options, Environment::new(), || {}),
        }
    }

    fn call<'a>(&'a self, command: &'a [String]) -> Call<'a> {
        Call { command, env: &self.env, tmp_dir: self.dir.path(), limit: Duration::from_secs(60) }
    }

    /// The answer of a shell script to a login by bob with the password "a b\x07".
    fn login(&mut self, via: VerifyVia, script: &str, peer_info: &str) -> (LoginAnswer, LoginCheck) {
        self.env.set("username", "bob");
        let command = shell(script);
        let (job, mut check) = LoginCheck::new(self.call(&command), via, "bob", "a b\x07").unwrap();
        let finished = self.scripts.run(job).unwrap();
        (check.finished(&finished, peer_info), check)
    }

    fn connect(&mut self, script: &str) -> (ConnectAnswer, ConnectCheck) {
        let command = shell(script);
        let (job, check) = ConnectCheck::new(self.call(&command)).unwrap();
        let finished = self.scripts.run(job).unwrap();
        (check.finished(&finished), check)
    }

    /// How many files there are.
    fn files(&self) -> usize {
        fs::read_dir(self.dir.path()).unwrap().count()
    }
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec()
}

fn deny(text: &str) -> LoginAnswer {
    LoginAnswer::Deny(text.into())
}

#[test]
fn a_login_goes_by_file_or_environment() {
    let mut bench = Bench::new();
    let by_file = r#"[ $# = 1 ] && [ "$(cat "$1")" = "bob
a b_" ] && [ -z "$password" ] && [ "$script_type" = user-pass-verify ]"#;
    assert_eq!(bench.login(VerifyVia::File, by_file, "").0, LoginAnswer::Accept);
    let by_env = r#"[ $# = 0 ] && [ "$username" = bob ] && [ "$password" = "a b_" ]"#;
    assert_eq!(bench.login(VerifyVia::Env, by_env, "").0, LoginAnswer::Accept);
    assert_eq!(bench.files(), 0, "all files are gone with their owners");
}

#[test]
fn the_password_file_goes_as_soon_as_the_script_ended() {
    let mut bench = Bench::new();
    let (answer, check) = bench.login(VerifyVia::File, "exit 2", "");
    assert_eq!((answer, bench.files()), (LoginAnswer::Deferred, 3));
    drop(check);
    assert_eq!(bench.files(), 0);
}

#[test]
fn a_refusal_may_say_why() {
    let mut bench = Bench::new();
    assert_eq!(bench.login(VerifyVia::File, "exit 1", "").0, deny(""));
    let script = "echo 'TEMP[backoff 42]: Come later' > $auth_failed_reason_file; exit 1";
    assert_eq!(bench.login(VerifyVia::File, script, "").0, deny("TEMP[backoff 42]: Come later"));
    assert_eq!(bench.login(VerifyVia::File, "kill -9 $$", "").0, deny(""));
    let long = "head -c 2000 /dev/zero | tr '\\0' x > $auth_failed_reason_file; exit 1";
    assert_eq!(bench.login(VerifyVia::File, long, "").0, deny(""));
}

#[test]
fn a_deferred_login_is_answered_by_file() {
    let mut bench = Bench::new();
    for (answer, expected) in
        [("1", Some(LoginAnswer::Accept)), ("0", Some(deny("no"))), ("2", None), ("", None)]
    {
        let (first, check) = bench.login(VerifyVia::File, "exit 2", "");
        assert_eq!((first, check.look()), (LoginAnswer::Deferred, None));
        fs::write(check.reason.name(), "no\n").unwrap();
        fs::write(check.control.name(), answer).unwrap();
        assert_eq!(check.look(), expected, "{answer:?}");
    }
}

#[test]
fn a_pending_login_needs_a_client_that_knows_the_method() {
    let mut bench = Bench::new();
    let script = "printf '90\\nwebauth\\nWEB_AUTH::https://x.example/\\nmore' > $auth_pending_file; exit 2";
    let pending = LoginAnswer::Pending {
        timeout: Duration::from_secs(90),
        extra: "WEB_AUTH::https://x.example/".into(),
    };
    assert_eq!(bench.login(VerifyVia::File, script, "IV_VER=3\nIV_SSO=crtext,webauth\n").0, pending);
    let refusal = deny("Authentication failed, required pending auth method 'webauth' not supported");
    assert_eq!(bench.login(VerifyVia::File, script, "IV_SSO=crtext\nUV_X=webauth\n").0, refusal);
    for broken in ["90\\nwebauth\\n", "0\\nwebauth\\nx", "many\\nwebauth\\nx"] {
        let script = format!("printf '{broken}' > $auth_pending_file; exit 2");
        assert_eq!(bench.login(VerifyVia::File, &script, "IV_SSO=webauth").0, deny(""), "{broken}");
    }
}

#[test]
fn an_answer_to_a_challenge_reaches_the_script() {
    let mut bench = Bench::new();
    let (_, check) = bench.login(VerifyVia::File, "exit 2", "");
    let script = r#"[ "$(cat "$1")" = bXkgbmFtZQ== ] && echo 1 > "$auth_control_file""#;
    let command = shell(script);
    let (job, file) = check.response(bench.call(&command), "bXkgbmFtZQ==").unwrap();
    assert!(bench.scripts.run(job).unwrap().is_success());
    assert_eq!((check.look(), bench.files()), (Some(LoginAnswer::Accept), 4));
    drop(file);
    assert_eq!(bench.files(), 3);
}

#[test]
fn a_new_client_gets_options_from_the_script() {
    let mut bench = Bench::new();
    let script = r#"[ "$1" = "$client_connect_config_file" ] && echo 'push "route 10.1.0.0"' > "$1""#;
    let accepted = ConnectAnswer::Accept("push \"route 10.1.0.0\"\n".into());
    assert_eq!(bench.connect(script).0, accepted);
    assert_eq!(bench.connect("rm $1").0, ConnectAnswer::Accept(String::new()));
    assert!(matches!(bench.connect("exit 3").0, ConnectAnswer::Deny(why) if why.contains("status: 3")));
    let zero = bench.connect("echo 0 > $client_connect_deferred_file").0;
    assert!(matches!(zero, ConnectAnswer::Deny(why) if why.contains("'0'")));
    let endless = bench.connect("head -c 70000 /dev/zero > $1").0;
    assert!(matches!(endless, ConnectAnswer::Deny(why) if why.contains("more than 65536 bytes")));
    assert_eq!(bench.files(), 0);
}

#[test]
fn a_new_client_may_be_answered_later() {
    let mut bench = Bench::new();
    let (answer, check) = bench.connect("echo 2 > $client_connect_deferred_file");
    assert_eq!((answer, check.look()), (ConnectAnswer::Deferred, None));
    fs::write(check.result.name(), "").unwrap();
    assert_eq!(check.look(), None, "caught between truncation and writing");
    fs::write(check.config.name(), "push x").unwrap();
    fs::write(check.result.name(), "1").unwrap();
    assert_eq!(check.look(), Some(ConnectAnswer::Accept("push x".into())));
    fs::write(check.result.name(), "0").unwrap();
    assert!(matches!(check.look(), Some(ConnectAnswer::Deny(_))));
}

#[test]
fn metadata_of_a_key_reaches_the_script() {
    let mut bench = Bench::new();
    let script = "[ $metadata_type = 1 ] && [ \"$(cat $metadata_file)\" = when ]";
    let command = shell(script);
    let (job, check) = MetadataCheck::new(bench.call(&command), b"\x01when").unwrap();
    assert!(bench.scripts.run(job).unwrap().is_success());
    drop(check);
    assert_eq!(bench.files(), 0);
}
