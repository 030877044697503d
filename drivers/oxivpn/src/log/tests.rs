//! The look of log lines.

use std::sync::Arc;

use super::*;

/// A sink whose content the test can read.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn log(style: Style, verb: u8, mute: u32) -> (Log, Memory) {
    let memory = Memory::default();
    (Log::to(Box::new(memory.clone()), style, verb, mute), memory)
}

const AT: Duration = Duration::new(1_795_230_000, 42_000);

#[test]
fn dated_lines_have_openvpns_shape() {
    let (log, memory) = log(Style::Dated { micros: false }, 1, 0);
    log.write_at(AT, Level::Info, format_args!("Initialization Sequence Completed"));
    let text = memory.text();
    let t = sys::local_time(AT.as_secs());
    let date = format!("{:04}-{:02}-{:02}", t.year, t.month, t.day);
    let time = format!("{:02}:{:02}:{:02}", t.hour, t.minute, t.second);
    assert_eq!(text, format!("{date} {time} Initialization Sequence Completed\n"));
    assert!(text.starts_with("2026-11-2"), "{text}");
}

#[test]
fn microseconds_from_verb_4_on() {
    let (log, memory) = log(Style::Dated { micros: true }, 4, 0);
    log.write_at(AT, Level::Debug, format_args!("x"));
    assert!(memory.text().ends_with(" us=42 x\n"), "{}", memory.text());
}

#[test]
fn machine_readable_lines_have_seconds_and_flags() {
    let (log, memory) = log(Style::Machine, 3, 0);
    log.write_at(AT, Level::Info, format_args!("a"));
    log.write_at(AT, Level::Fatal, format_args!("b"));
    log.write_at(AT, Level::Warn, format_args!("c"));
    assert_eq!(memory.text(), "1795230000.000042 1 a\n1795230000.000042 10 b\n1795230000.000042 40 c\n");
}

#[test]
fn verbosity_decides() {
    let (log, memory) = log(Style::Plain, 1, 0);
    say!(log, Detail, "hidden");
    say!(log, Info, "shown {}", 1);
    say!(log, Error, "error");
    assert_eq!(memory.text(), "shown 1\nerror\n");
}

#[test]
fn verb_0_shows_errors_only() {
    let (log, memory) = log(Style::Plain, 0, 0);
    say!(log, Info, "hidden");
    say!(log, Fatal, "fatal");
    assert_eq!(memory.text(), "fatal\n");
}

#[test]
fn mute_cuts_runs_and_says_how_many() {
    let (log, memory) = log(Style::Plain, 3, 2);
    for n in 0..5 {
        say!(log, Detail, "run {n}");
    }
    say!(log, Info, "end");
    assert_eq!(
        memory.text(),
        "run 0\nrun 1\n3 variation(s) on previous 2 message(s) suppressed by --mute\nend\n"
    );
}

#[test]
fn infos_are_never_muted() {
    let (log, memory) = log(Style::Plain, 3, 1);
    for n in 0..3 {
        say!(log, Info, "{n}");
    }
    assert_eq!(memory.text(), "0\n1\n2\n");
}

#[test]
fn remote_text_cannot_forge_lines() {
    let (log, memory) = log(Style::Plain, 3, 0);
    say!(log, Info, "INFO,x\n2026-01-01 Initialization Sequence Completed\x1b[2J");
    assert_eq!(memory.text(), "INFO,x?2026-01-01 Initialization Sequence Completed?[2J\n");
}

#[test]
fn files_are_truncated_or_appended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "old\n").unwrap();
    let options = |append| LogOptions {
        verbosity: 1,
        mute: 0,
        no_timestamps: true,
        machine_readable: false,
        file: Some(LogFile { path: path.clone(), append }),
        mute_replay: false,
    };
    say!(Log::open(&options(true)).unwrap(), Info, "new");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\nnew\n");
    say!(Log::open(&options(false)).unwrap(), Info, "only");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "only\n");
}

#[test]
fn an_unusable_file_is_named() {
    let options = LogOptions {
        verbosity: 1,
        mute: 0,
        no_timestamps: false,
        machine_readable: false,
        file: Some(LogFile { path: "/nonexistent/log".into(), append: false }),
        mute_replay: false,
    };
    let error = Log::open(&options).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/log"), "{error}");
}

#[test]
fn a_tap_gets_what_is_shown() {
    let (log, memory) = log(Style::Plain, 1, 0);
    let tap = Arc::new(Tap::default());
    say!(log, Info, "before");
    log.set_tap(tap.clone());
    say!(log, Detail, "hidden");
    log.write_at(AT, Level::Warn, format_args!("shown"));
    log.set_verb(3);
    say!(log, Detail, "no more hidden");
    assert_eq!(memory.text(), "before\nshown\nno more hidden\n");
    let expected = TappedLine { unix: AT.as_secs(), level: Level::Warn, text: "shown".into() };
    assert_eq!(tap.take(), Some(expected));
    assert_eq!(tap.take().unwrap().text, "no more hidden");
    assert_eq!(tap.take(), None);
    (0..5000).for_each(|n| say!(log, Info, "{n}"));
    assert_eq!(tap.take().unwrap().text, "4000");
}
