use std::fs;
use std::io::ErrorKind;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::Receiver;

use super::*;

/// A runner whose wake-ups can be waited for.
struct Bench {
    scripts: Scripts,
    woken: Receiver<()>,
}

impl Bench {
    fn new(security: u8) -> Self {
        let mut base = Environment::new();
        base.set("PATH", "/usr/bin:/bin");
        let (wake, woken) = channel();
        let options = ScriptOptions { security, ..ScriptOptions::default() };
        let scripts = Scripts::new(&options, base, move || {
            let _ = wake.send(());
        });
        Self { scripts, woken }
    }

    /// Blocks until the next result is there.
    fn next(&mut self) -> (JobId, Finished) {
        loop {
            if let Some(result) = self.scripts.poll() {
                return result;
            }
            self.woken.recv().expect("the supervisor lives");
        }
    }
}

fn job(script: &str, args: &[&str]) -> Job {
    Job {
        hook: "--test",
        command: vec!["/bin/sh".into(), "-c".into(), script.into(), "sh".into()],
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: Environment::new(),
        limit: Duration::from_secs(60),
        lane: None,
        share: None,
    }
}

fn fifo(dir: &Path, name: &str) -> String {
    let path = dir.join(name).to_str().expect("a plain path").to_owned();
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    path
}

#[test]
fn the_exit_status_comes_back() {
    let mut bench = Bench::new(2);
    let id = bench.scripts.start(job("exit $1", &["3"])).unwrap();
    assert_eq!(bench.next(), (id, Finished::Exited(3)));
    let id = bench.scripts.start(job("kill -TERM $$", &[])).unwrap();
    assert_eq!(bench.next(), (id, Finished::Killed(15)));
    assert_eq!((bench.scripts.open(), bench.scripts.poll()), (0, None));
}

#[test]
fn arguments_are_not_split_or_expanded() {
    let mut bench = Bench::new(2);
    let odd = "a b $(false) `x` *";
    let id = bench
        .scripts
        .start(job(r#"[ "$#" = 2 ] && [ "$1" = 'a b $(false) `x` *' ] && [ -z "$2" ]"#, &[odd, ""]));
    assert_eq!(bench.next(), (id.unwrap(), Finished::Exited(0)));
}

#[test]
fn scripts_get_our_variables_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("env");
    let mut bench = Bench::new(2);
    let mut work = job("cat /proc/$$/environ > $1", &[out.to_str().unwrap()]);
    work.env.set("common_name", "ann");
    work.env.set("password", "hunter2");
    bench.scripts.base_mut().set("config", "server.conf");
    bench.scripts.start(work).unwrap();
    assert_eq!(bench.next().1, Finished::Exited(0));
    let text = fs::read_to_string(&out).unwrap();
    let mut seen: Vec<&str> = text.split_terminator('\0').collect();
    seen.sort_unstable();
    assert_eq!(seen, ["PATH=/usr/bin:/bin", "common_name=ann", "config=server.conf"]);
}

#[test]
fn passwords_need_script_security_3() {
    let mut bench = Bench::new(3);
    let mut work = job("[ \"$password\" = hunter2 ]", &[]);
    work.env.set("password", "hunter2");
    assert_eq!(bench.scripts.run(work.clone()), Ok(Finished::Exited(0)));
    assert_eq!(Bench::new(2).scripts.run(work), Ok(Finished::Exited(1)));
}

#[test]
fn script_security_refuses_with_openvpns_words() {
    for security in [0, 1] {
        let mut bench = Bench::new(security);
        let refusal = bench.scripts.start(job("true", &[])).unwrap_err();
        assert_eq!(refusal.to_string(), "disallowed by script-security setting");
        assert_eq!(bench.scripts.run(job("true", &[])), Err(Refusal::Security));
    }
}

#[test]
fn what_cannot_be_started_says_why() {
    let mut bench = Bench::new(2);
    let missing = Job { command: vec!["/nonexistent/script".into()], ..job("", &[]) };
    bench.scripts.start(missing.clone()).unwrap();
    let text = bench.next().1.to_string();
    assert!(
        text.starts_with("could not execute external program") && text.contains("/nonexistent/script"),
        "{text}"
    );
    assert!(matches!(bench.scripts.run(missing), Ok(Finished::NotStarted(_))));
    let empty = Job { command: Vec::new(), ..job("", &[]) };
    assert!(matches!(bench.scripts.run(empty), Ok(Finished::NotStarted(_))));
}

#[test]
fn who_takes_too_long_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, never) = (fifo(dir.path(), "alive"), fifo(dir.path(), "never"));
    let mut bench = Bench::new(2);
    // The inner shell holds the fifo open and waits for a word that never comes.
    let script = "sh -c 'exec 3>$1; read word < $2' sh $1 $2; true";
    let work = Job { limit: Duration::from_millis(200), ..job(script, &[&alive, &never]) };
    let id = bench.scripts.start(work).unwrap();
    assert_eq!(bench.next(), (id, Finished::Overdue));
    // Opening succeeds while the writer lives; reading ends when it is dead. If it never got as far as opening
    // the fifo, there is nobody to wait for.
    use std::os::unix::fs::OpenOptionsExt as _;
    let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&alive).unwrap();
    let rest = loop {
        match std::io::read_to_string(&reader) {
            // It was told to die and has not yet.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            rest => break rest.unwrap(),
        }
    };
    assert_eq!(rest, "");
    let work = Job { limit: Duration::from_millis(50), ..job("read word < $1", &[&never]) };
    assert_eq!(bench.scripts.run(work), Ok(Finished::Overdue));
}

#[test]
fn a_slow_one_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let gate = fifo(dir.path(), "gate");
    let mut bench = Bench::new(2);
    let slow = bench.scripts.start(job("read word < $1; exit 9", &[&gate])).unwrap();
    let quick = bench.scripts.start(job("exit 4", &[])).unwrap();
    assert_eq!(bench.next(), (quick, Finished::Exited(4)));
    fs::OpenOptions::new().write(true).open(&gate).unwrap().write_all(b"go\n").unwrap();
    assert_eq!(bench.next(), (slow, Finished::Exited(9)));
}

#[test]
fn a_lane_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let gate = fifo(dir.path(), "gate");
    let list = dir.path().join("list");
    let list = list.to_str().unwrap();
    let mut bench = Bench::new(2);
    let on_lane = |script: &str, args: &[&str]| Job { lane: Some(7), ..job(script, args) };
    let first = bench.scripts.start(on_lane("read word < $1; echo 1 >> $2", &[&gate, list])).unwrap();
    let second = bench.scripts.start(on_lane("echo 2 >> $1", &[list])).unwrap();
    let third = bench.scripts.start(on_lane("echo 3 >> $1", &[list])).unwrap();
    let beside = bench.scripts.start(Job { lane: Some(8), ..job("echo 0 >> $1", &[list]) }).unwrap();
    assert_eq!(bench.next().0, beside);
    fs::OpenOptions::new().write(true).open(&gate).unwrap().write_all(b"go\n").unwrap();
    assert_eq!([bench.next().0, bench.next().0, bench.next().0], [first, second, third]);
    assert_eq!(fs::read_to_string(list).unwrap(), "0\n1\n2\n3\n");
}

#[test]
fn no_more_run_at_once_than_may() {
    let dir = tempfile::tempdir().unwrap();
    let gate = fifo(dir.path(), "gate");
    let mut bench = Bench::new(2);
    for _ in 0..RUNNING_MAX {
        bench.scripts.start(job("read word < $1; exit 1", &[&gate])).unwrap();
    }
    let last = bench.scripts.start(job("exit 2", &[])).unwrap();
    // All places are taken by those that wait at the gate; opening it for writing lets them go, and one line
    // each is enough.
    let mut writer = fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
    writer.write_all("go\n".repeat(RUNNING_MAX).as_bytes()).unwrap();
    let results: Vec<_> = (0..=RUNNING_MAX).map(|_| bench.next()).collect();
    let place = results.iter().position(|(id, _)| *id == last).unwrap();
    assert!(place >= 1, "the last one got a place only after another one ended");
    assert_eq!(results[place].1, Finished::Exited(2));
    assert_eq!(bench.scripts.open(), 0);
}

#[test]
fn a_full_queue_refuses() {
    let mut bench = Bench::new(2);
    bench.scripts.open = RUNNING_MAX + WAITING_MAX;
    assert_eq!(bench.scripts.start(job("true", &[])), Err(Refusal::Busy));
}

#[test]
fn one_client_does_not_get_all_places() {
    let dir = tempfile::tempdir().unwrap();
    let gate = fifo(dir.path(), "gate");
    let mut bench = Bench::new(2);
    let of = |share: &str, job: Job| Job { share: Some(share.into()), ..job };
    // More than there are places, in front of the others.
    for _ in 0..2 * RUNNING_MAX {
        bench.scripts.start(of("greedy", job("read word < $1", &[&gate]))).unwrap();
    }
    for n in 0..20 {
        let other = bench.scripts.start(of(&format!("other {n}"), job("exit 4", &[]))).unwrap();
        assert_eq!(bench.next(), (other, Finished::Exited(4)), "all of the greedy one wait at the gate");
    }
    // The greedy one's go on when there are places.
    let mut writer = fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
    writer.write_all("go\n".repeat(2 * RUNNING_MAX).as_bytes()).unwrap();
    let ended = (0..2 * RUNNING_MAX).filter(|_| bench.next().1.is_success()).count();
    assert_eq!(ended, 2 * RUNNING_MAX);
    assert!(bench.scripts.shares.is_empty() && bench.scripts.share_of.is_empty());
}

#[test]
fn one_client_does_not_fill_the_queue() {
    let mut bench = Bench::new(2);
    let of = |share: &str| Job { share: Some(share.into()), ..job("true", &[]) };
    bench.scripts.shares.insert("greedy".into(), SHARE_MAX);
    assert_eq!(bench.scripts.start(of("greedy")), Err(Refusal::Share));
    let other = bench.scripts.start(of("other")).unwrap();
    assert_eq!(bench.next(), (other, Finished::Exited(0)));
}
