//! The smallest plan that still fails.
//!
//! [`shrink`] leaves out items by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
//! Input", 2002), then makes the [shape](crate::plan::Shape) simpler, and both again until nothing helps any more.
//! What comes out is named by numbers of items and names of [`Simpler`], from which [`reduced`] makes the plan again.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::machine::PlaneKind;
use crate::plan::{Cast, Item, Mishap, Plan, WrapKind};
use crate::tls::Kind as TlsKind;

#[cfg(test)]
mod tests;

/// Rounds of items and shape after which it is enough.
const ROUNDS: usize = 4;

/// Something that makes a shape simpler. Its text has no space and no comma, and is read back by [`FromStr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simpler {
    /// At most so many clients; what has to do with others is left out.
    Clients(u16),
    /// Faults for at most so many seconds; what begins later is left out.
    Seconds(u64),
    /// The quick TLS.
    FakeTls,
    /// The plain data plane at the server or called peer.
    LocalHub,
    /// The plain data plane at those who call.
    LocalCallers,
    /// No logins, and no tokens.
    NoLogin,
    /// Logins are answered at once.
    QuickLogin,
    /// No tokens.
    NoToken,
    /// A control channel without protection.
    NoWrap,
    /// One data cipher.
    OneCipher,
    /// Datagrams instead of byte streams.
    Datagrams,
    /// No renegotiation after a number of packets.
    NoRenegPackets,
    /// Clients don't talk to each other.
    NoClientToClient,
    /// One client of each name.
    UniqueNames,
    /// One socket for all attempts.
    OneSocket,
    /// Nobody says goodbye.
    NoExitNotify,
    /// Data has the faults of all packets.
    DataUnspared,
    /// Lines without delay of their own.
    NoDelay,
}

/// Those without a number, with their names.
const NAMES: [(Simpler, &str); 16] = [
    (Simpler::FakeTls, "fake-tls"),
    (Simpler::LocalHub, "local-hub"),
    (Simpler::LocalCallers, "local-callers"),
    (Simpler::NoLogin, "no-login"),
    (Simpler::QuickLogin, "quick-login"),
    (Simpler::NoToken, "no-token"),
    (Simpler::NoWrap, "no-wrap"),
    (Simpler::OneCipher, "one-cipher"),
    (Simpler::Datagrams, "datagrams"),
    (Simpler::NoRenegPackets, "no-reneg-packets"),
    (Simpler::NoClientToClient, "no-client-to-client"),
    (Simpler::UniqueNames, "unique-names"),
    (Simpler::OneSocket, "one-socket"),
    (Simpler::NoExitNotify, "no-exit-notify"),
    (Simpler::DataUnspared, "data-unspared"),
    (Simpler::NoDelay, "no-delay"),
];

impl fmt::Display for Simpler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(most) => write!(f, "clients={most}"),
            Self::Seconds(most) => write!(f, "seconds={most}"),
            other => {
                f.write_str(NAMES.iter().find(|(simpler, _)| simpler == other).map_or("?", |(_, name)| name))
            }
        }
    }
}

impl FromStr for Simpler {
    type Err = String;

    /// # Errors
    /// The names that there are, if it is none of them.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |most: &str| most.parse::<u16>().ok().filter(|most| *most > 0);
        let known = match text.split_once('=') {
            Some(("clients", most)) => number(most).map(Self::Clients),
            Some(("seconds", most)) => number(most).map(|most| Self::Seconds(most.into())),
            _ => NAMES.iter().find(|(_, name)| *name == text).map(|(simpler, _)| *simpler),
        };
        known.ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
            format!("no simplification \"{text}\"; there are clients=N, seconds=N, {}", names.join(", "))
        })
    }
}

impl Simpler {
    /// The plan made simpler; none if it is so already.
    pub fn apply(self, plan: &Plan) -> Option<Plan> {
        let mut plan = plan.clone();
        let shape = &mut plan.shape;
        let changed = match self {
            Self::Clients(most) => return fewer_clients(plan, most),
            Self::Seconds(most) => return shorter(plan, Duration::from_secs(most)),
            Self::FakeTls => set(&mut shape.tls, TlsKind::Fake),
            Self::LocalHub => set(&mut shape.planes[0], PlaneKind::Local),
            Self::LocalCallers => set(&mut shape.planes[1], PlaneKind::Local),
            Self::NoLogin => set(&mut shape.login, false) | set(&mut shape.token, false),
            Self::QuickLogin => set(&mut shape.login_delay, Duration::ZERO),
            Self::NoToken => set(&mut shape.token, false),
            Self::NoWrap => set(&mut shape.wrap, WrapKind::None),
            Self::OneCipher => {
                let many = shape.ciphers.len() > 1;
                shape.ciphers.truncate(1);
                many
            }
            Self::Datagrams => set(&mut shape.stream, false),
            Self::NoRenegPackets => set(&mut shape.reneg_packets, 0),
            Self::NoClientToClient => {
                plan.items
                    .retain(|item| !matches!(item, Item::Traffic { from, to, .. } if *from > 0 && *to > 0));
                set(&mut shape.client_to_client, false)
            }
            Self::UniqueNames => set(&mut shape.duplicate_cn, false),
            Self::OneSocket => set(&mut shape.fresh_sockets, false),
            Self::NoExitNotify => set(&mut shape.exit_notify, false),
            Self::DataUnspared => set(&mut shape.spare_data, false),
            Self::NoDelay => set(&mut shape.delay, Duration::ZERO),
        };
        changed.then_some(plan)
    }

    /// What to try, each list up to the first that helps.
    fn candidates(plan: &Plan) -> Vec<Vec<Self>> {
        let clients = match plan.shape.cast {
            Cast::Server { clients } => clients,
            Cast::Pair => 1,
        };
        let seconds = [5, 10, 20, 40, 80].map(Self::Seconds).to_vec();
        let first = [(1..clients).map(Self::Clients).collect(), seconds];
        first.into_iter().chain(NAMES.iter().map(|(simpler, _)| vec![*simpler])).collect()
    }
}

fn set<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
}

fn fewer_clients(mut plan: Plan, most: u16) -> Option<Plan> {
    let Cast::Server { clients } = &mut plan.shape.cast else { return None };
    if *clients <= most {
        return None;
    }
    *clients = most;
    plan.items.retain(|item| item_reaches(item) <= most);
    Some(plan)
}

/// The highest number of a site or machine that an item names.
fn item_reaches(item: &Item) -> u16 {
    match *item {
        Item::Line { site, .. } | Item::Spell { site, .. } | Item::Nat { site, .. } => site,
        Item::Traffic { from, to, .. } | Item::Transfer { from, to, .. } => from.max(to),
        Item::Gremlin { machine, .. } => machine,
        Item::Attack { attack, .. } => attack.site,
        Item::Streams(_) | Item::Stranger => 0,
        Item::Event { what, .. } => match what {
            Mishap::Crash(who, _)
            | Mishap::Sleep(who, _)
            | Mishap::Skew(who, _)
            | Mishap::Rebind(who)
            | Mishap::Renumber(who)
            | Mishap::BreakStreams(who)
            | Mishap::Renegotiate(who)
            | Mishap::Leave(who)
            | Mishap::Message(who) => who,
        },
    }
}

fn shorter(mut plan: Plan, most: Duration) -> Option<Plan> {
    if plan.shape.faulty <= most {
        return None;
    }
    plan.shape.faulty = most;
    plan.items.retain(|item| !matches!(item, Item::Spell { at, .. } | Item::Event { at, .. } | Item::Attack { at, .. } if *at >= most));
    Some(plan)
}

/// A plan without the items of these numbers, and then made simpler in this order.
pub fn reduced(plan: &Plan, without: &[usize], simpler: &[Simpler]) -> Plan {
    simpler.iter().fold(plan.without(without), |plan, simpler| simpler.apply(&plan).unwrap_or(plan))
}

/// What [`shrink`] found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan, made by [`reduced`].
    pub plan: Plan,
    /// Numbers of items that it doesn't need.
    pub without: Vec<usize>,
    /// What made it simpler.
    pub simpler: Vec<Simpler>,
    /// How many plans were tried.
    pub tried: u32,
    /// Whether there was time to try all.
    pub complete: bool,
}

/// Makes a plan that fails smaller as long as `fails` says that it still does, with at most `budget` tries.
pub fn shrink(plan: &Plan, budget: u32, mut fails: impl FnMut(&Plan) -> bool) -> Shrunk {
    let mut tried = 0;
    let mut complete = true;
    let mut fails = |plan: &Plan| {
        complete &= tried < budget;
        if !complete {
            return false;
        }
        tried += 1;
        fails(plan)
    };
    let all: Vec<usize> = (0..plan.items.len()).collect();
    let without = |kept: &[usize]| -> Vec<usize> {
        all.iter().copied().filter(|number| !kept.contains(number)).collect()
    };
    let mut kept = all.clone();
    let mut simpler: Vec<Simpler> = Vec::new();
    for _ in 0..ROUNDS {
        let before = (kept.len(), simpler.len());
        kept = minimal(kept, |kept| fails(&reduced(plan, &without(kept), &simpler)));
        for list in Simpler::candidates(&reduced(plan, &without(&kept), &simpler)) {
            let now = reduced(plan, &without(&kept), &simpler);
            let helps = |step: &&Simpler| step.apply(&now).is_some_and(|plan| fails(&plan));
            simpler.extend(list.iter().find(helps).copied());
        }
        if before == (kept.len(), simpler.len()) {
            break;
        }
    }
    let without = without(&kept);
    Shrunk { plan: reduced(plan, &without, &simpler), without, simpler, tried, complete }
}

/// A part of `items` that still fails, and of which no single item can be left out (ddmin). `items` fails.
pub fn minimal<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    if items.is_empty() || fails(&[]) {
        return Vec::new();
    }
    let mut parts = 2;
    while items.len() > 1 {
        let size = items.len().div_ceil(parts);
        let alone = items.chunks(size).find(|part| fails(part)).map(<[T]>::to_vec);
        if let Some(part) = alone {
            (items, parts) = (part, 2);
            continue;
        }
        // With two parts, what one leaves is the other.
        let rest = (0..items.len()).step_by(size).filter(|_| parts > 2).find_map(|from| {
            let to = (from + size).min(items.len());
            let rest = [&items[..from], &items[to..]].concat();
            fails(&rest).then_some(rest)
        });
        match rest {
            Some(rest) => (items, parts) = (rest, (parts - 1).max(2)),
            None if parts >= items.len() => break,
            None => parts = (2 * parts).min(items.len()),
        }
    }
    items
}

/// A text with each number, with fraction and unit of time, replaced by `#`: two violations whose texts are equal then
/// are most likely the same error.
pub fn kind(text: &str) -> String {
    let mut kind = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if !c.is_ascii_digit() {
            kind.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let past = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        rest = &rest[past(rest)..];
        if let Some(fraction) = rest.strip_prefix('.').filter(|rest| past(rest) > 0) {
            rest = &fraction[past(fraction)..];
        }
        for unit in ["ns", "µs", "ms", "s"] {
            let after = rest.strip_prefix(unit).filter(|rest| !rest.starts_with(char::is_alphanumeric));
            if let Some(after) = after {
                rest = after;
                break;
            }
        }
        kind.push('#');
    }
    kind
}
