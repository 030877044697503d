//! A plan as text, for people.

use core::fmt;

use oxivpn_proto::config::params::Framing;

use super::{Cast, Fault, Item, Mishap, Plan, Shape};
use crate::link::{Bursts, Faults};
use crate::pipe::PipeFaults;
use crate::seed::Rate;
use crate::world::SiteFaults;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.shape)?;
        for item in &self.items {
            writeln!(f, "- {item}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cast {
            Cast::Server { clients: 1 } => f.write_str("server and 1 client")?,
            Cast::Server { clients } => write!(f, "server and {clients} clients")?,
            Cast::Pair => f.write_str("point to point")?,
        }
        write!(f, ", {}", if self.stream { "tcp" } else { "udp" })?;
        write!(f, ", wrap {:?}, tls {:?}, {:?}", self.wrap, self.tls, self.ciphers)?;
        if self.framing != Framing::None {
            write!(f, ", framing {:?}", self.framing)?;
        }
        write!(f, ", planes {:?} {:?}", self.planes[0], self.planes[1])?;
        write!(f, ", reneg-sec {} {}", self.reneg[0].as_secs(), self.reneg[1].as_secs())?;
        if self.reneg_packets > 0 {
            write!(f, ", reneg-pkts {}", self.reneg_packets)?;
        }
        write!(f, ", hand-window {}", self.hand_window.as_secs())?;
        write!(f, ", tran-window {}", self.tran_window.as_secs())?;
        write!(f, ", ping {}, ping-restart {}", self.ping.as_secs(), self.ping_restart.as_secs())?;
        let flags = [
            (self.login, "login"),
            (!self.login_delay.is_zero(), "slow logins"),
            (self.token, "auth-gen-token"),
            (self.client_to_client, "client-to-client"),
            (self.duplicate_cn, "duplicate-cn"),
            (self.fixed, "ifconfig-push"),
            (self.fresh_sockets, "nobind"),
            (self.exit_notify, "explicit-exit-notify"),
            (self.spare_data, "data is spared"),
        ];
        for (_, name) in flags.into_iter().filter(|(on, _)| *on) {
            write!(f, ", {name}")?;
        }
        write!(f, ", delay {:?}, faults for {:?}", self.delay, self.faulty)
    }
}

struct Percent(Rate);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millionths = self.0.as_millionths();
        write!(f, "{}.{:02} %", millionths / 10_000, millionths % 10_000 / 100)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Loss(rate) => write!(f, "loss {}", Percent(rate)),
            Self::Bursts(bursts) => write!(
                f,
                "bursts of loss: worse {}, better {}, loss {} then",
                Percent(bursts.worsen),
                Percent(bursts.recover),
                Percent(bursts.bad)
            ),
            Self::Duplication(rate) => write!(f, "duplication {}", Percent(rate)),
            Self::Reordering(rate, hold) => write!(f, "reordering {} by up to {hold:?}", Percent(rate)),
            Self::Corruption(rate, flips) => write!(f, "corruption {}, up to {flips} bits", Percent(rate)),
            Self::Truncation(rate) => write!(f, "truncation {}", Percent(rate)),
            Self::Replay(rate, after) => write!(f, "replay {} after up to {after:?}", Percent(rate)),
            Self::Jitter(jitter) => write!(f, "jitter {jitter:?}"),
            Self::Slow(rate, queue) => write!(f, "{} kbit/s, queue of {queue} bytes", rate / 1000),
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::BlackHole => f.write_str("black hole"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |up: bool| if up { "from" } else { "to" };
        match self {
            Self::Line { site, up, fault } => write!(f, "line {} site {site}: {fault}", way(*up)),
            Self::Spell { site, up, fault, at, lasts } => {
                write!(f, "line {} site {site}: {fault} at {at:?} for {lasts:?}", way(*up))
            }
            Self::Nat { site, kind } => {
                write!(f, "site {site} is behind {}", kind.name().unwrap_or("a translator"))
            }
            Self::Streams(faults) => write!(f, "streams: {faults}"),
            Self::Event { at, what } => write!(f, "at {at:?}: {what}"),
            Self::Traffic { from, to, every, size, ask, forged } => {
                write!(f, "machine {from} sends to {to} every {every:?}, {} to {} bytes", size.0, size.1)?;
                f.write_str(if *ask { ", answered" } else { "" })?;
                f.write_str(if *forged { ", under a false address" } else { "" })
            }
            Self::Transfer { from, to, at, bytes } => {
                let (sends, fetches) = (bytes.upload, bytes.download);
                write!(f, "at {at:?}: machine {from} sends {to} {sends} bytes by TCP, fetches {fetches}")
            }
            Self::Stranger => f.write_str("a stranger calls"),
            Self::Gremlin { machine, mask } => {
                write!(f, "gremlin {} in machine {machine}", u32::from(*mask))
            }
            Self::Attack { attack, at, lasts } => write!(f, "{attack}, at {at:?} for {lasts:?}"),
        }
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(who, off) => write!(f, "machine {who} crashes, and starts after {off:?}"),
            Self::Sleep(who, time) => write!(f, "machine {who} sleeps for {time:?}"),
            Self::Skew(who, seconds) => {
                write!(f, "machine {who}'s calendar is {seconds} s off from its next start on")
            }
            Self::Rebind(site) => write!(f, "the translator of site {site} forgets everything"),
            Self::Renumber(site) => write!(f, "site {site} gets another address"),
            Self::BreakStreams(who) => write!(f, "the streams of machine {who} break"),
            Self::Renegotiate(who) => write!(f, "machine {who} renegotiates"),
            Self::Leave(who) => write!(f, "machine {who} leaves"),
            Self::Message(who) => write!(f, "machine {who} is sent a message"),
        }
    }
}

/// What is wrong, without the delay; nothing if nothing is.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let never = |rate: Rate| rate == Rate::NEVER;
        let faults = [
            (self.loss == Rate::ALWAYS, Fault::BlackHole),
            (!never(self.loss) && self.loss != Rate::ALWAYS, Fault::Loss(self.loss)),
            (self.bursts != Bursts::NONE, Fault::Bursts(self.bursts)),
            (!never(self.duplication), Fault::Duplication(self.duplication)),
            (!never(self.reordering), Fault::Reordering(self.reordering, self.hold)),
            (!never(self.corruption), Fault::Corruption(self.corruption, self.flips)),
            (!never(self.truncation), Fault::Truncation(self.truncation)),
            (!never(self.replay), Fault::Replay(self.replay, self.replay_after)),
            (!self.jitter.is_zero(), Fault::Jitter(self.jitter)),
            (self.rate > 0, Fault::Slow(self.rate, self.queue)),
            (self.mtu < Self::NONE.mtu, Fault::Mtu(self.mtu)),
        ];
        let there = faults.iter().filter(|(there, _)| *there);
        for (n, (_, fault)) in there.enumerate() {
            write!(f, "{}{fault}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// What is wrong in which direction; nothing if nothing is.
impl fmt::Display for SiteFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (up, down) = (self.up.to_string(), self.down.to_string());
        match (up.is_empty(), down.is_empty()) {
            (true, true) => Ok(()),
            (false, true) => write!(f, "from it {up}"),
            (true, false) => write!(f, "to it {down}"),
            (false, false) if up == down => write!(f, "{up}"),
            (false, false) => write!(f, "from it {up}; to it {down}"),
        }
    }
}

/// What is wrong, without the delay; nothing if nothing is.
impl fmt::Display for PipeFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut faults = Vec::new();
        if self.blocked {
            faults.push("blocked".to_owned());
        }
        if !self.jitter.is_zero() {
            faults.push(format!("jitter {:?}", self.jitter));
        }
        if self.chunks != Rate::NEVER {
            faults.push(format!("chunks {}", Percent(self.chunks)));
        }
        if self.buffer < Self::NONE.buffer {
            faults.push(format!("buffer of {} bytes", self.buffer));
        }
        if self.stall != Rate::NEVER {
            faults.push(format!("stalls {} for up to {:?}", Percent(self.stall), self.stall_for));
        }
        if self.reset != Rate::NEVER {
            faults.push(format!("resets {}", Percent(self.reset)));
        }
        f.write_str(&faults.join(", "))
    }
}
