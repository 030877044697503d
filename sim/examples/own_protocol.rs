//! A protocol of your own over a simulated VPN.
//!
//! `cargo run -p oxivpn-sim --example own_protocol`
//!
//! One end asks for the squares of 1, 2, 3 and so on; the other end knows them. Packets get lost, so who asks has to
//! repeat. The program prints how long that took, in the world's time, and stops with the seed if anything broke.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::VecDeque;

use oxivpn_proto::Instant;
use oxivpn_sim::Rate;
use oxivpn_sim::plan::{Fault, Item, Plan, Shape, build};
use oxivpn_sim::probe::{packet, payload};
use oxivpn_sim::trace::Keep;
use oxivpn_sim::world::Inner;

/// Questions in all.
const QUESTIONS: u32 = 100;
/// When a question is repeated. There and back takes 80 ms on the lines of this world.
const REPEAT: Duration = Duration::from_millis(300);

/// Asks one question after the other.
struct Asker {
    /// Given by the VPN's server, so not known at first.
    own: Option<Ipv4Addr>,
    server: Ipv4Addr,
    question: u32,
    /// When to send the question, the first time or again.
    next: Instant,
    sent: u32,
    wrong: Option<String>,
}

impl Inner for Asker {
    fn set_address(&mut self, _: Instant, address: IpAddr) {
        if let IpAddr::V4(address) = address {
            self.own = Some(address);
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        let Some((.., answer)) = payload(packet) else { return };
        let word = |at: usize| answer.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        // An answer to a question that was repeated may come twice: the second one is old.
        if word(0) == Some(self.question) {
            if word(4) != Some(self.question * self.question) {
                self.wrong = Some(format!("{:?} is not the square of {}", word(4), self.question));
            }
            self.question += 1;
            self.next = now;
        }
    }

    fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        let own = self.own.filter(|_| self.question <= QUESTIONS && self.next <= now)?;
        self.next = now + REPEAT;
        self.sent += 1;
        Some(packet(own, self.server, &self.question.to_be_bytes()))
    }

    fn deadline(&self, _: Instant) -> Option<Instant> {
        (self.own.is_some() && self.question <= QUESTIONS).then_some(self.next)
    }

    /// The world stops when this says something.
    fn violation(&self) -> Option<String> {
        self.wrong.clone()
    }
}

/// Answers whoever asks.
#[derive(Default)]
struct Answerer {
    answers: VecDeque<Vec<u8>>,
}

impl Inner for Answerer {
    fn set_address(&mut self, _: Instant, _: IpAddr) {}

    fn handle_packet(&mut self, _: Instant, question: &[u8]) {
        let Some((from, to, question)) = payload(question) else { return };
        let Ok(number) = question.try_into().map(u32::from_be_bytes) else { return };
        let answer = [number.to_be_bytes(), (number * number).to_be_bytes()].concat();
        self.answers.push_back(packet(to, from, &answer));
    }

    fn poll_packet(&mut self, _: Instant) -> Option<Vec<u8>> {
        self.answers.pop_front()
    }

    fn deadline(&self, _: Instant) -> Option<Instant> {
        None
    }
}

fn main() {
    let seed = 1;
    // A server and a client; one in ten packets to the client is lost, and one in ten from it.
    let shape = Shape { delay: Duration::from_millis(20), ..Shape::default() };
    let loss = |up| Item::Line { site: 1, up, fault: Fault::Loss(Rate::percent(10)) };
    let mut built = build(&Plan::new(seed, shape, vec![loss(true), loss(false)]), Keep::Hash);
    let (hub, client, world) = (built.hub, built.callers[0], &mut built.world);

    // One end of the protocol behind each machine.
    let server = Ipv4Addr::new(10, 8, 0, 1);
    let start = world.now();
    let asker = Asker { own: None, server, question: 1, next: start, sent: 0, wrong: None };
    let asker = world.attach(client, asker);
    world.attach(hub, Answerer::default());

    while world.inner(asker).question <= QUESTIONS && world.now() - start < Duration::from_secs(600) {
        if !world.run_for(Duration::from_secs(1)) {
            eprintln!("seed {seed}: {}", world.violations()[0]);
            std::process::exit(1);
        }
    }
    let Asker { question, sent, .. } = world.inner(asker);
    println!("{} answers for {sent} questions in {:?}", question - 1, world.now() - start);
}
