//! All workers of a server, behind one handle.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use oxivpn_proto::{Order, Report, StreamId};

use super::handover::{Handover, hatches};
use super::roster::Roster;
use super::share::{Directory, Share, for_all, worker_of_stream};
use super::{Command, Common, Draft, Endpoints, News, Shared, Totals, Worker};
use crate::client::Tun;
use crate::lane::mail::Packets;

/// The control thread's handle of the workers. It gives each order to whom it is for, and tells of all of them as if
/// they were one: an order is applied when all that got it, or one before it, have done so, and sums are those of all.
///
/// All hear who is there, where, and with which inner addresses, so that each knows whose a packet is; see
/// [`Share`] for who has a peer.
pub struct Crew {
    workers: Vec<Worker>,
    #[cfg(test)]
    roster: Arc<Roster>,
    threads: Vec<JoinHandle<()>>,
    directory: Directory,
    orders: Orders,
    /// Of each worker, how often it told its sums, and what they were.
    sums: Vec<(u64, Totals)>,
    /// How often sums were passed on.
    told: u64,
    /// What a call sorts out.
    sorted: Vec<Vec<Command>>,
    news: Vec<News>,
}

impl Crew {
    /// Starts a worker for each of `endpoints`, all of which have the same local addresses in the same order. `wake` is
    /// called from all threads when there is news.
    pub fn start(
        common: &Common,
        endpoints: Vec<Endpoints>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let count = endpoints.len();
        let wake = Arc::new(wake);
        let drafts = endpoints.iter().map(|_| {
            let wake = wake.clone();
            Draft::new(Box::new(move || wake()))
        });
        let drafts = drafts.collect::<io::Result<Vec<_>>>()?;
        let shared: Vec<_> = drafts.iter().map(|draft| draft.shared.clone()).collect();
        let ways = hatches(count);
        let streams = Arc::new(AtomicUsize::new(0));
        let mut engines = Vec::with_capacity(count);
        for (me, (endpoints, draft)) in endpoints.into_iter().zip(drafts).enumerate() {
            let wake = |shared: &Arc<Shared>| -> Box<dyn Fn() + Send> {
                let shared = shared.clone();
                Box::new(move || shared.commands.wake())
            };
            let handover = Handover::new(&ways, me, shared.iter().map(wake).collect());
            engines.push(draft.engine(common, endpoints, Share { me, count }, handover, streams.clone())?);
        }
        let workers: Vec<_> = shared.into_iter().map(|shared| Worker { shared }).collect();
        let (_roster, threads) = Roster::start(engines)?;
        Ok(Self {
            #[cfg(test)]
            roster: _roster,
            threads,
            directory: Directory::new(count),
            orders: Orders::new(count),
            sums: vec![Default::default(); count],
            told: 0,
            sorted: workers.iter().map(|_| Vec::new()).collect(),
            news: Vec::new(),
            workers,
        })
    }

    /// How many workers there are.
    pub const fn count(&self) -> usize {
        self.workers.len()
    }

    /// Tells one thing.
    pub fn command(&mut self, command: Command) {
        self.sort(command);
        self.deliver();
    }

    /// Tells all of `commands`, which is empty afterwards.
    pub fn commands(&mut self, commands: &mut Vec<Command>) {
        for command in commands.drain(..) {
            self.sort(command);
        }
        self.deliver();
    }

    /// Changes where inner packets come from and go to; `None` throws them away. Each worker gets a queue of the
    /// device. If there are fewer of them, the first worker reads and hands over, and all write.
    pub fn set_device(&mut self, device: Option<Tun>) {
        let mut queues =
            device.map(|device| device.share_out(self.workers.len())).unwrap_or_default().into_iter();
        for sorted in &mut self.sorted {
            sorted.push(Command::Device(queues.next()));
        }
        self.deliver();
    }

    fn sort(&mut self, command: Command) {
        match command {
            Command::Order(order) => self.give(order),
            Command::Frame(id, _) | Command::Close(id) => self.push(self.holder(id), command),
            Command::AskUsage => self.push_all(|| Command::AskUsage),
            Command::AskTotals => self.push_all(|| Command::AskTotals),
            Command::Stop => self.push_all(|| Command::Stop),
            Command::Device(device) => self.set_device(device),
        }
    }

    fn holder(&self, id: StreamId) -> usize {
        worker_of_stream(id, self.workers.len())
    }

    fn give(&mut self, Order { seq, directive }: Order) {
        let peer = directive.peer();
        // Whom an order is about that was overtaken does not matter; somebody must say that it is done.
        let before = self.directory.owner(peer);
        self.directory.note(&directive);
        let owner = self.directory.owner(peer).or(before).unwrap_or(0);
        for worker in (0..self.workers.len()).filter(|worker| *worker != owner) {
            if let Some(directive) = for_all(&directive) {
                self.open_order(worker, Order { seq, directive });
            }
        }
        self.open_order(owner, Order { seq, directive });
    }

    fn open_order(&mut self, worker: usize, order: Order) {
        self.orders.give(worker, order.seq);
        self.push(worker, Command::Order(order));
    }

    fn push(&mut self, worker: usize, command: Command) {
        if let Some(sorted) = self.sorted.get_mut(worker) {
            sorted.push(command);
        }
    }

    fn push_all(&mut self, command: impl Fn() -> Command) {
        self.sorted.iter_mut().for_each(|sorted| sorted.push(command()));
    }

    fn deliver(&mut self) {
        for (worker, commands) in self.workers.iter().zip(&mut self.sorted) {
            worker.commands(commands);
        }
    }

    /// Takes what came since the last call into `news` and `packets`, which must be empty; there are
    /// [`packets`](Self::packets) of each worker. Of a connection that `packets` came from, `news` has told.
    pub fn take(&mut self, news: &mut Vec<News>, packets: &mut [Packets]) {
        for (number, (worker, packets)) in self.workers.iter().zip(packets).enumerate() {
            worker.take(&mut self.news, packets);
            for item in self.news.drain(..) {
                match item {
                    News::Report(Report::Applied(seq)) => self.orders.done(number, seq),
                    News::Totals(totals) => {
                        let (times, sums) = &mut self.sums[number];
                        *times += 1;
                        *sums = *totals;
                    }
                    item => news.push(item),
                }
            }
        }
        // Behind what all of them have told before.
        news.extend(self.orders.applied().map(|seq| News::Report(Report::Applied(seq))));
        let answered = self.sums.iter().map(|(times, _)| *times).min().unwrap_or(0);
        for _ in self.told..answered {
            news.push(News::Totals(Box::new(Totals::sum(self.sums.iter().map(|(_, sums)| sums)))));
        }
        self.told = answered;
    }

    /// Room for [`take`](Self::take).
    pub fn packets(&self) -> Vec<Packets> {
        self.workers.iter().map(|_| Packets::new()).collect()
    }

    #[cfg(test)]
    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    #[cfg(test)]
    pub(super) fn shared(&self, worker: usize) -> &Shared {
        &self.workers[worker].shared
    }
}

/// Which orders are on their way to whom.
#[derive(Debug)]
struct Orders {
    /// Of each worker, those that it has not said to have applied.
    open: Vec<VecDeque<u64>>,
    /// The last one that was given out, and up to which it was told that all are applied.
    given: u64,
    told: u64,
}

impl Orders {
    fn new(count: usize) -> Self {
        Self { open: vec![VecDeque::new(); count], given: 0, told: 0 }
    }

    fn give(&mut self, worker: usize, seq: u64) {
        self.given = seq;
        if let Some(open) = self.open.get_mut(worker) {
            open.push_back(seq);
        }
    }

    /// A worker has applied all that it got up to `seq`.
    fn done(&mut self, worker: usize, seq: u64) {
        let Some(open) = self.open.get_mut(worker) else { return };
        while open.front().is_some_and(|open| *open <= seq) {
            open.pop_front();
        }
    }

    /// Up to which order all are applied, if that is more than last time.
    fn applied(&mut self) -> Option<u64> {
        let applied = self.open.iter().filter_map(VecDeque::front).min().map_or(self.given, |seq| seq - 1);
        let before = core::mem::replace(&mut self.told, applied);
        (applied > before).then_some(applied)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.command(Command::Stop);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Passed;
    use super::*;

    #[test]
    fn an_order_is_applied_when_all_have_applied_it_and_those_before() {
        let mut orders = Orders::new(3);
        assert_eq!(orders.applied(), None);
        for (seq, workers) in [(1, &[0, 1, 2][..]), (2, &[1]), (3, &[1]), (4, &[0, 1, 2]), (5, &[0])] {
            workers.iter().for_each(|worker| orders.give(*worker, seq));
        }
        orders.done(1, 4);
        assert_eq!(orders.applied(), None, "two others have not heard of the first one");
        orders.done(0, 1);
        orders.done(2, 1);
        assert_eq!(orders.applied(), Some(3), "the second and the third were for one that has done all");
        assert_eq!(orders.applied(), None, "it is told once");
        orders.done(0, 5);
        assert_eq!(orders.applied(), None);
        orders.done(2, 4);
        assert_eq!(orders.applied(), Some(5));
        orders.give(2, 6);
        assert_eq!(orders.applied(), None);
        orders.done(2, 6);
        assert_eq!(orders.applied(), Some(6));
    }

    #[test]
    fn sums_are_those_of_all() {
        let mut one = Totals { control_dropped: 1, ..Totals::default() };
        one.traffic.link_read = 5;
        one.shares = vec![Passed { packets: 1, handed: 2, refused: 3 }];
        let sum = Totals::sum([&one, &Totals::default(), &one].into_iter());
        assert_eq!((sum.control_dropped, sum.traffic.link_read, sum.shares.len()), (2, 10, 2));
    }
}
