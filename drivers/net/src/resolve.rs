//! Name resolution on helper threads.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{error, fmt, io, thread};

use crate::addr::{Family, fold};

#[cfg(test)]
mod tests;

/// Most look-ups under way at once. `getaddrinfo` may take half a minute when no name server answers, and nothing can
/// end it early; further look-ups wait their turn.
const MAX_THREADS: usize = 8;

/// Identifies one look-up. Never reused by one [`Resolver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The answer to one look-up.
#[derive(Debug)]
pub struct Resolved {
    /// Which look-up.
    pub ticket: Ticket,
    /// The name looked up.
    pub host: String,
    /// All addresses of the family asked for, in the order of `getaddrinfo`, without repeats; never empty.
    pub addrs: Result<Vec<SocketAddr>, ResolveError>,
}

/// Why a name gave no address.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResolveError {
    /// The resolver failed: no such name, no name server, no network.
    Lookup {
        /// The name.
        host: String,
        /// What `getaddrinfo` said.
        source: io::Error,
    },
    /// The name, or the literal address, exists only in the other IP version.
    Family {
        /// The name.
        host: String,
        /// The family that was asked for.
        family: Family,
    },
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup { host, source } => write!(
                f,
                "cannot resolve host name {host:?}: {source}; check the spelling, the network and /etc/resolv.conf"
            ),
            Self::Family { host, family } => {
                let (wanted, other) = if *family == Family::V4 { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
                write!(f, "{host:?} has no {wanted} address; use {other} or another name")
            }
        }
    }
}

impl error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Lookup { source, .. } => Some(source),
            Self::Family { .. } => None,
        }
    }
}

/// Looks names up without blocking the caller.
///
/// Answers are collected with [`Resolver::poll`]. The wake-up closure is called, from a helper thread or from within
/// [`Resolver::start`], each time one is ready; it would write to an eventfd or wake a `mio::Waker`. Dropping the
/// resolver forgets all look-ups; a helper thread caught in `getaddrinfo` then ends by itself and wakes nobody.
///
/// ```
/// use std::sync::mpsc;
/// use oxivpn_net::{Family, Resolver};
///
/// let (wake, woken) = mpsc::channel();
/// let mut resolver = Resolver::new(move || wake.send(()).unwrap_or(()));
/// let ticket = resolver.start("localhost", 1194, Family::V4);
/// woken.recv()?;
/// let answer = resolver.poll().expect("woken because there is one");
/// assert_eq!((answer.ticket, answer.addrs?[0]), (ticket, "127.0.0.1:1194".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
    next: u64,
}

struct Shared {
    state: Mutex<State>,
    wake: Box<dyn Fn() + Send + Sync>,
    lookup: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
}

#[derive(Debug, Default)]
struct State {
    threads: usize,
    waiting: VecDeque<Query>,
    /// Look-ups in a helper thread whose answer is still wanted.
    running: BTreeMap<Ticket, ()>,
    ready: VecDeque<Resolved>,
}

#[derive(Debug)]
struct Query {
    ticket: Ticket,
    host: String,
    port: u16,
    family: Family,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver {
    /// A resolver that calls `wake` whenever [`Resolver::poll`] has something new.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with_lookup(wake, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn with_lookup(
        wake: impl Fn() + Send + Sync + 'static,
        lookup: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    ) -> Self {
        let shared = Shared { state: Mutex::default(), wake: Box::new(wake), lookup };
        Self { shared: Arc::new(shared), next: 0 }
    }

    /// Begins to look up `host`. A literal address (also `[v6]` in brackets) is answered at once, without a thread.
    pub fn start(&mut self, host: &str, port: u16, family: Family) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        if let Some(ip) = literal(host) {
            let addrs = filter(host, family, vec![SocketAddr::new(ip, port)]);
            self.shared.state().ready.push_back(Resolved { ticket, host: host.to_owned(), addrs });
            (self.shared.wake)();
            return ticket;
        }
        self.shared.state().waiting.push_back(Query { ticket, host: host.to_owned(), port, family });
        start_thread(&self.shared);
        ticket
    }

    /// The next answer, if one is ready.
    pub fn poll(&mut self) -> Option<Resolved> {
        self.shared.state().ready.pop_front()
    }

    /// Forgets a look-up: its answer will not come. Unknown and answered tickets are ignored.
    pub fn cancel(&mut self, ticket: Ticket) {
        let mut state = self.shared.state();
        state.waiting.retain(|query| query.ticket != ticket);
        state.running.remove(&ticket);
        state.ready.retain(|answer| answer.ticket != ticket);
    }
}

/// Starts one more helper thread if there is work for it and the limit allows.
fn start_thread(shared: &Arc<Shared>) {
    {
        let mut state = shared.state();
        if state.waiting.is_empty() || state.threads >= MAX_THREADS {
            return;
        }
        state.threads += 1;
    }
    let weak = Arc::downgrade(shared);
    let lookup = shared.lookup;
    let spawned = thread::Builder::new().name("resolver".to_owned()).spawn(move || work(&weak, lookup));
    if let Err(error) = spawned {
        let mut state = shared.state();
        state.threads -= 1;
        if state.threads == 0 {
            // No thread will ever come to these: answer them now rather than never.
            let failed: Vec<Query> = state.waiting.drain(..).collect();
            for query in failed {
                let source = io::Error::new(error.kind(), format!("no thread to look it up: {error}"));
                let addrs = Err(ResolveError::Lookup { host: query.host.clone(), source });
                state.ready.push_back(Resolved { ticket: query.ticket, host: query.host, addrs });
            }
            drop(state);
            (shared.wake)();
        }
    }
}

/// A helper thread: answers waiting queries until there are none, or nobody is left to hear.
fn work(shared: &Weak<Shared>, lookup: fn(&str, u16) -> io::Result<Vec<SocketAddr>>) {
    loop {
        let query = {
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.state();
            let Some(query) = state.waiting.pop_front() else {
                state.threads -= 1;
                return;
            };
            state.running.insert(query.ticket, ());
            query
        };
        let Query { ticket, host, port, family } = query;
        let addrs = match lookup(&host, port) {
            Ok(addrs) => filter(&host, family, addrs),
            Err(source) => Err(ResolveError::Lookup { host: host.clone(), source }),
        };
        let Some(shared) = shared.upgrade() else { return };
        let wanted = {
            let mut state = shared.state();
            let wanted = state.running.remove(&ticket).is_some();
            if wanted {
                state.ready.push_back(Resolved { ticket, host, addrs });
            }
            wanted
        };
        if wanted {
            (shared.wake)();
        }
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

fn filter(host: &str, family: Family, addrs: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ResolveError> {
    let mut kept = Vec::with_capacity(addrs.len());
    for addr in addrs.into_iter().map(fold) {
        if family.accepts(addr.ip()) && !kept.contains(&addr) {
            kept.push(addr);
        }
    }
    if kept.is_empty() { Err(ResolveError::Family { host: host.to_owned(), family }) } else { Ok(kept) }
}
