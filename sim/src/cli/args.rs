//! What the arguments ask for.

use core::fmt::Display;
use core::ops::Range;
use core::str::FromStr;
use std::path::PathBuf;
use std::thread;

use lexopt::prelude::{Long, Short, Value, ValueExt as _};
use oxivpn_sim::shrink::Simpler;

use super::Error;

const HELP: &str = "\
Runs simulated VPN networks: each from one seed, in virtual time, with faults in every link.

Usage: oxivpn-sim COMMAND [OPTION]...

Commands:
  storm    Run many seeds; make each violation small and say how to see it again
  replay   Run one seed, and keep its packets, its events and a page for a browser
  night    Run two ends under the worst gremlin for hours, and a server with many clients behind NATs
  report   Run a few seeds, and make a directory of pages for a browser
  table    Measure what TCP gets through a tunnel, beside the same TCP without one, on lines that lose packets

oxivpn-sim COMMAND --help tells the options of a command. -V, --version tells the version.

Exit code: 0 if all is well, 1 if an invariant is broken, 2 for wrong use or a file that can't be written.
";

const STORM: &str = "\
Runs many seeds on all cores. Each seed draws a network, its faults and its traffic; after a while the faults end, and
then everybody has to be well. For each kind of violation the first seed is made small: items of its plan are left out,
and its shape is made simpler, as long as it fails in the same way.

Usage: oxivpn-sim storm [OPTION]...

Options:
  --seeds N        So many seeds [1000]
  --from A         The first seed [0]
  --to B           The seed after the last, instead of --seeds
  --seed S         This one only
  --jobs J         So many at the same time [as many as there are cores]
  --tries N        Plans to try to make a violation small; 0 for none [400]
  --out DIR        Write seed-N.pcapng, seed-N.txt and seed-N.html of violations here
  --report FILE    Write a page for a browser about all seeds
  -h, --help       This text
";

const REPLAY: &str = "\
Runs one seed, or a part of its plan, and tells what happened. The plan is printed with the numbers of its items.

Usage: oxivpn-sim replay --seed S [OPTION]...

Options:
  --seed S           The seed
  --without LIST     Leave out the items of these numbers, such as 0-4,7
  --simplify LIST    Make the shape simpler, such as fake-tls,clients=1,seconds=20
  --out DIR          Write seed-S.pcapng, seed-S.txt and seed-S.html here
  -h, --help         This text
";

const TABLE: &str = "\
Measures what TCP gets through a tunnel, beside the same TCP on the same lines without one, at 0, 1 and 5 % loss.

Usage: oxivpn-sim table [OPTION]...

Options:
  --pairs N        So many pairs of runs for each loss [50]
  -h, --help       This text
";

const NIGHT: &str = "\
Runs two ends of a tunnel under OpenVPN's gremlin at its strongest, with reneg-sec 10 and ten pings a second in both
directions; then a server and clients behind five kinds of NAT with a ping a second each.

Usage: oxivpn-sim night [OPTION]...

Options:
  --seed S         The seed of both [1]
  --hours H        Virtual hours of the two ends; 0 to leave them out [8]
  --clients N      Clients of the server [50]
  --minutes M      Virtual minutes of server and clients; 0 to leave them out [30]
  --report FILE    Write a page for a browser, and one for each of the two beside it
  -h, --help       This text
";

const REPORT: &str = "\
Runs a few seeds and makes a directory of pages for a browser: index.html about all of them, and for some seeds a page,
the packets and the events. Seeds with a violation are always among these.

Usage: oxivpn-sim report --out DIR [OPTION]...

Options:
  --out DIR        The directory; it is made if it isn't there
  --seeds N        So many seeds [100]
  --from A         The first seed [0]
  --to B           The seed after the last, instead of --seeds
  --seed S         This one only
  --show LIST      Pages for these seeds, such as 3,10-12 [the first three]
  --jobs J         So many at the same time [as many as there are cores]
  --tries N        Plans to try to make a violation small; 0 for none [400]
  -h, --help       This text
";

/// Seeds in one list at most; a list is for a few.
const LONGEST_LIST: u64 = 10_000;

/// What to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Print a text.
    Say(String),
    Storm(Storm),
    Replay(Replay),
    Night(Night),
    /// Pairs of runs for each loss.
    Table(u64),
    Report(Report),
}

/// Options of `storm`.
#[derive(Clone, Debug)]
pub(super) struct Storm {
    pub(super) seeds: Range<u64>,
    pub(super) jobs: usize,
    pub(super) tries: u32,
    pub(super) out: Option<PathBuf>,
    pub(super) report: Option<PathBuf>,
}

/// Options of `replay`.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) seed: u64,
    pub(super) without: Vec<usize>,
    pub(super) simplify: Vec<Simpler>,
    pub(super) out: Option<PathBuf>,
}

/// Options of `night`.
#[derive(Debug)]
pub(super) struct Night {
    pub(super) seed: u64,
    pub(super) hours: u64,
    pub(super) clients: u16,
    pub(super) minutes: u64,
    pub(super) report: Option<PathBuf>,
}

/// Options of `report`.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) storm: Storm,
    pub(super) out: PathBuf,
    /// Seeds that get a page whatever comes of them.
    pub(super) show: Vec<u64>,
}

/// Reads the arguments.
pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Command, Error> {
    let command = match parser.next()? {
        Some(Value(command)) => command.string()?,
        Some(Short('h') | Long("help")) => return Ok(Command::Say(HELP.into())),
        Some(Short('V') | Long("version")) => {
            return Ok(Command::Say(format!("oxivpn-sim {}\n", env!("CARGO_PKG_VERSION"))));
        }
        Some(other) => return Err(other.unexpected().into()),
        None => return Err(Error::Usage("there is no command".into())),
    };
    match command.as_str() {
        "storm" => storm(&mut parser),
        "replay" => replay(&mut parser),
        "night" => night(&mut parser),
        "table" => table(&mut parser),
        "report" => report(&mut parser),
        other => Err(Error::Usage(format!("there is no command \"{other}\""))),
    }
}

/// Which seeds, as several options say together.
#[derive(Default)]
struct Seeds {
    seeds: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
    seed: Option<u64>,
}

impl Seeds {
    fn range(&self, otherwise: u64) -> Result<Range<u64>, Error> {
        let wrong = |text: &str| Err(Error::Usage(text.into()));
        let from = self.from.unwrap_or(0);
        let to = match *self {
            Self { seed: Some(seed), seeds: None, from: None, to: None } => {
                return match seed.checked_add(1) {
                    Some(after) => Ok(seed..after),
                    None => wrong("--seed is too large"),
                };
            }
            Self { seed: Some(_), .. } => return wrong("--seed goes with none of --seeds, --from and --to"),
            Self { seeds: Some(_), to: Some(_), .. } => return wrong("--seeds doesn't go with --to"),
            Self { to: Some(to), .. } => to,
            Self { seeds, .. } => match from.checked_add(seeds.unwrap_or(otherwise)) {
                Some(to) => to,
                None => return wrong("--from is too large"),
            },
        };
        if from >= to { wrong("there are no seeds in this range") } else { Ok(from..to) }
    }
}

fn storm(parser: &mut lexopt::Parser) -> Result<Command, Error> {
    let mut seeds = Seeds::default();
    let mut storm = Storm { seeds: 0..0, jobs: cores(), tries: 400, out: None, report: None };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Say(STORM.into())),
            Long("out") => storm.out = Some(parser.value()?.into()),
            Long("report") => storm.report = Some(parser.value()?.into()),
            Long(name) => {
                let name = name.to_owned();
                many(parser, &name, &mut seeds, &mut storm)?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    storm.seeds = seeds.range(1000)?;
    Ok(Command::Storm(storm))
}

/// Options of `storm` and `report`.
fn many(parser: &mut lexopt::Parser, name: &str, seeds: &mut Seeds, storm: &mut Storm) -> Result<(), Error> {
    match name {
        "seeds" => seeds.seeds = Some(number(parser, "--seeds", 1)?),
        "from" => seeds.from = Some(number(parser, "--from", 0)?),
        "to" => seeds.to = Some(number(parser, "--to", 1)?),
        "seed" => seeds.seed = Some(number(parser, "--seed", 0)?),
        "jobs" => storm.jobs = number(parser, "--jobs", 1)?,
        "tries" => storm.tries = number(parser, "--tries", 0)?,
        other => return Err(Long(other).unexpected().into()),
    }
    Ok(())
}

fn replay(parser: &mut lexopt::Parser) -> Result<Command, Error> {
    let mut seed = None;
    let mut replay = Replay { seed: 0, without: Vec::new(), simplify: Vec::new(), out: None };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Say(REPLAY.into())),
            Long("seed") => seed = Some(number(parser, "--seed", 0)?),
            Long("without") => {
                let numbers = numbers(&parser.value()?.string()?, "--without")?;
                replay.without.extend(numbers.into_iter().filter_map(|number| usize::try_from(number).ok()));
            }
            Long("simplify") => {
                for name in parser.value()?.string()?.split(',').map(str::trim) {
                    replay.simplify.push(name.parse().map_err(Error::Usage)?);
                }
            }
            Long("out") => replay.out = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    replay.seed = seed.ok_or_else(|| Error::Usage("replay needs --seed".into()))?;
    Ok(Command::Replay(replay))
}

fn table(parser: &mut lexopt::Parser) -> Result<Command, Error> {
    let mut pairs = 50;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Say(TABLE.into())),
            Long("pairs") => pairs = number(parser, "--pairs", 1)?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Table(pairs))
}

fn night(parser: &mut lexopt::Parser) -> Result<Command, Error> {
    let mut night = Night { seed: 1, hours: 8, clients: 50, minutes: 30, report: None };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Say(NIGHT.into())),
            Long("seed") => night.seed = number(parser, "--seed", 0)?,
            Long("hours") => night.hours = number(parser, "--hours", 0)?,
            Long("clients") => night.clients = number(parser, "--clients", 1)?,
            Long("minutes") => night.minutes = number(parser, "--minutes", 0)?,
            Long("report") => night.report = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    // The server lets in so many, and its sites have addresses of one network.
    if night.clients > 60 {
        return Err(Error::Usage("--clients is at most 60".into()));
    }
    if night.hours > 10_000 || night.minutes > 600_000 {
        return Err(Error::Usage("--hours is at most 10000, --minutes at most 600000".into()));
    }
    Ok(Command::Night(night))
}

fn report(parser: &mut lexopt::Parser) -> Result<Command, Error> {
    let mut seeds = Seeds::default();
    let mut storm = Storm { seeds: 0..0, jobs: cores(), tries: 400, out: None, report: None };
    let (mut out, mut show) = (None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Say(REPORT.into())),
            Long("out") => out = Some(PathBuf::from(parser.value()?)),
            Long("show") => show = Some(numbers(&parser.value()?.string()?, "--show")?),
            Long(name) => {
                let name = name.to_owned();
                many(parser, &name, &mut seeds, &mut storm)?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let out = out.ok_or_else(|| Error::Usage("report needs --out".into()))?;
    storm.seeds = seeds.range(100)?;
    let show = show.unwrap_or_else(|| storm.seeds.clone().take(3).collect());
    Ok(Command::Report(Report { storm, out, show }))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The value of an option: a number that is at least `least`.
fn number<T>(parser: &mut lexopt::Parser, option: &str, least: T) -> Result<T, Error>
where
    T: FromStr + PartialOrd + Display,
{
    let text = parser.value()?.string()?;
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        Ok(_) => Err(Error::Usage(format!("{option} is at least {least}"))),
        Err(_) => Err(Error::Usage(format!("{option}: \"{text}\" is no number that it may be"))),
    }
}

/// Numbers such as `0-4,7`.
fn numbers(text: &str, option: &str) -> Result<Vec<u64>, Error> {
    let wrong = || Error::Usage(format!("{option}: \"{text}\" is no list such as 0-4,7"));
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u64, u64) =
            from.parse().ok().zip(to.parse().ok()).filter(|(from, to)| from <= to).ok_or_else(wrong)?;
        if to - from >= LONGEST_LIST {
            return Err(Error::Usage(format!("{option}: more than {LONGEST_LIST} numbers")));
        }
        numbers.extend(from..=to);
    }
    Ok(numbers)
}

/// Numbers in order as [`numbers`] reads them.
pub(super) fn ranges(numbers: &[usize]) -> String {
    let parts = numbers.chunk_by(|a, b| a + 1 == *b).filter_map(|run| match run {
        [] => None,
        [one] => Some(one.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Error> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    fn seeds(line: &str) -> Option<Range<u64>> {
        match parsed(line) {
            Ok(Command::Storm(storm)) => Some(storm.seeds),
            _ => None,
        }
    }

    #[test]
    fn seeds_are_given_in_three_ways() {
        assert_eq!(seeds("storm"), Some(0..1000));
        assert_eq!(seeds("storm --seeds 7"), Some(0..7));
        assert_eq!(seeds("storm --from 5 --seeds 7"), Some(5..12));
        assert_eq!(seeds("storm --from 5 --to=7 --jobs 2"), Some(5..7));
        assert_eq!(seeds("storm --seed 9"), Some(9..10));
        for wrong in ["--seed 9 --to 10", "--seeds 3 --to 4", "--from 7 --to 7", "--seeds 0", "--jobs 0", "x"]
        {
            assert!(matches!(parsed(&format!("storm {wrong}")), Err(Error::Usage(_))), "{wrong}");
        }
        assert!(matches!(parsed("storm --seed 18446744073709551615"), Err(Error::Usage(_))));
    }

    #[test]
    fn lists_of_numbers_are_read_as_written() {
        for list in [vec![], vec![3], vec![0, 1, 2, 7, 9, 10]] {
            let text = ranges(&list);
            let read = if text.is_empty() { Vec::new() } else { numbers(&text, "").unwrap() };
            assert_eq!(read, list.iter().map(|&number| number as u64).collect::<Vec<_>>());
        }
        assert_eq!(ranges(&[0, 1, 2, 7, 9, 10]), "0-2,7,9-10");
        for wrong in ["", "1,,2", "2-1", "-3", "1-99999999999", "x"] {
            assert!(numbers(wrong, "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_replay_has_a_seed_and_known_simplifications() {
        let Ok(Command::Replay(replay)) =
            parsed("replay --seed 3 --without 1,4-5 --simplify fake-tls,clients=2")
        else {
            panic!("no replay");
        };
        assert_eq!((replay.seed, replay.without), (3, vec![1, 4, 5]));
        assert_eq!(replay.simplify, [Simpler::FakeTls, Simpler::Clients(2)]);
        for wrong in ["", "--seed 3 --simplify x", "--seed 3 --without x", "--seed"] {
            assert!(matches!(parsed(&format!("replay {wrong}")), Err(Error::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn every_command_has_a_help_text() {
        for command in ["", "storm ", "replay ", "night ", "report ", "table "] {
            assert!(matches!(parsed(&format!("{command}--help")), Ok(Command::Say(_))), "{command}");
        }
        assert!(parsed("storms").is_err() && parsed("").is_err() && parsed("report").is_err());
    }
}
