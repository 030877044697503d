//! Command line of `oxivpn load`.

use core::time::Duration;

use anyhow::{Context as _, Result, bail};

pub(super) const USAGE: &str = "\
Makes many clients in one process and says how a server bears them.

  oxivpn load client.ovpn --clients 1000 --rate 200 --hold 60

  --clients N       how many at the same time, 100
  --rate R          how many begin each second; as fast as the server lets them without it
  --churn SECONDS   each client leaves as soon as it is up, and the next takes its place, for so long
  --renegotiate     once all are up, each negotiates a second key
  --hold SECONDS    then stay up so long, 0

All show the same certificate: the server needs `duplicate-cn`. Neither the device nor routes of this host are
touched. The last line of the report is meant for programs.";

/// Most clients of one process: sockets are numbered with 16 bits.
const MOST: usize = 65_000;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) profile: String,
    pub(super) clients: usize,
    /// Clients that begin each second.
    pub(super) rate: Option<f64>,
    pub(super) churn: Option<Duration>,
    pub(super) renegotiate: bool,
    pub(super) hold: Duration,
}

impl Options {
    /// `None` if help was asked for.
    pub(super) fn parse(args: &[String]) -> Result<Option<Self>> {
        let mut words = args.iter();
        let mut options = Self {
            profile: String::new(),
            clients: 100,
            rate: None,
            churn: None,
            renegotiate: false,
            hold: Duration::ZERO,
        };
        while let Some(word) = words.next() {
            let mut number = || -> Result<f64> {
                let value = words.next().with_context(|| format!("{word} needs a number behind it"))?;
                let number: f64 = value.parse().with_context(|| format!("{word} {value}: not a number"))?;
                if !(number.is_finite() && (0.0..1e9).contains(&number)) {
                    bail!("{word} {value}: out of range");
                }
                Ok(number)
            };
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--clients" => options.clients = number()? as usize,
                "--rate" => options.rate = Some(number()?).filter(|rate| *rate > 0.0),
                "--churn" => options.churn = Some(Duration::from_secs_f64(number()?)),
                "--hold" => options.hold = Duration::from_secs_f64(number()?),
                "--renegotiate" => options.renegotiate = true,
                option if option.starts_with('-') => {
                    bail!("load: {option} is no option; `oxivpn load --help`")
                }
                profile if options.profile.is_empty() => profile.clone_into(&mut options.profile),
                more => bail!("load: one profile is enough, what is {more}?"),
            }
        }
        if options.profile.is_empty() {
            return Ok(None);
        }
        if !(1..=MOST).contains(&options.clients) {
            bail!(
                "--clients {}: 1 to {MOST} are possible; start several processes for more",
                options.clients
            );
        }
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let options = parse("c.ovpn --clients 500 --rate 50 --renegotiate --hold 2").unwrap().unwrap();
        assert_eq!((options.clients, options.rate, options.hold), (500, Some(50.0), Duration::from_secs(2)));
        assert!(options.renegotiate && options.churn.is_none());
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("--help").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("c --clients", "--clients needs a number"),
            ("c --clients many", "not a number"),
            ("c --clients 0", "1 to 65000"),
            ("c --clients 100000", "several processes"),
            ("c --rate nan", "out of range"),
            ("c --fast", "--fast is no option"),
            ("a b", "what is b?"),
        ] {
            let error = format!("{:#}", parse(line).unwrap_err());
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
