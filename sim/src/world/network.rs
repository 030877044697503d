//! Datagrams from machine to machine.

use core::net::SocketAddr;

use oxivpn_proto::Path;
use oxivpn_proto::wire::data::{Peek, peek};

use super::agenda::Part;
use super::{Addresses, CONTROL, DATA, SiteFaults, SiteId, State, World};
use crate::link::Link;
use crate::trace::Seen;

impl World {
    pub(super) fn send(&mut self, index: usize, path: Path, bytes: Vec<u8>) {
        let remote = match path {
            Path::Datagram { remote, .. } => remote,
            Path::Stream(id) => return self.send_on_stream(index, id, &bytes),
        };
        let station = &mut self.stations[index];
        if let Some(gremlin) = &mut station.gremlin
            && !gremlin.outgoing(self.now)
        {
            return;
        }
        let from = SocketAddr::new(station.address, station.port);
        let site = station.site;
        self.tape.frame(self.now, Seen::Sent, (from, remote), false, &bytes);
        self.enter_up(site, (from, remote), bytes);
    }

    pub(super) fn enter_up(&mut self, site: usize, addresses: Addresses, bytes: Vec<u8>) {
        let class = self.class(site, &bytes);
        let line = &mut self.sites[site].up[class];
        line.send(self.now, bytes, addresses);
        self.agenda.set(Part::Up(site, class), line.deadline());
    }

    fn class(&self, site: usize, bytes: &[u8]) -> usize {
        if self.sites[site].faults.spare_data && matches!(peek(bytes), Peek::Data(_)) {
            DATA
        } else {
            CONTROL
        }
    }

    pub(super) fn call_up(&mut self, site: usize, class: usize) {
        while let Some(((from, to), bytes)) = self.sites[site].up[class].poll(self.now) {
            let public = match &mut self.sites[site].nat {
                Some(nat) => nat.outbound(self.now, from, to),
                None => from,
            };
            self.enter_down((public, to), bytes);
        }
        let deadline = self.sites[site].up[class].deadline();
        self.agenda.set(Part::Up(site, class), deadline);
    }

    /// Sends a packet off to the site of its destination. Its source may be anything.
    pub(super) fn enter_down(&mut self, addresses: Addresses, bytes: Vec<u8>) {
        let Some(&site) = self.by_address.get(&addresses.1.ip()) else {
            self.lost_on_the_way += 1;
            return;
        };
        let class = self.class(site, &bytes);
        let line = &mut self.sites[site].down[class];
        line.send(self.now, bytes, addresses);
        self.agenda.set(Part::Down(site, class), line.deadline());
    }

    pub(super) fn call_down(&mut self, site: usize, class: usize) {
        while let Some(((from, to), mut bytes)) = self.sites[site].down[class].poll(self.now) {
            let inside = match &mut self.sites[site].nat {
                Some(nat) => nat.inbound(self.now, from, to),
                None => Some(to),
            };
            if to.port() == 0 {
                // A packet of a host on the open network, with no tunnel around it.
                self.give_open(site, &bytes);
                continue;
            }
            let receiver = inside.and_then(|to| self.find(site, to).map(|index| (index, to)));
            let Some((index, to)) = receiver else {
                self.lost_on_the_way += 1;
                continue;
            };
            if let Some(gremlin) = &mut self.stations[index].gremlin
                && !gremlin.incoming(self.now, &mut bytes)
            {
                continue;
            }
            self.tape.frame(self.now, Seen::Received, (from, to), false, &bytes);
            self.with(index, |machine, now| machine.handle_packet(now, Path::udp(0, from), bytes));
        }
        let deadline = self.sites[site].down[class].deadline();
        self.agenda.set(Part::Down(site, class), deadline);
    }

    /// The running machine at an address behind the site's translator.
    fn find(&self, site: usize, to: SocketAddr) -> Option<usize> {
        let is_it = |&index: &usize| {
            let station = &self.stations[index];
            station.state == State::Running && SocketAddr::new(station.address, station.port) == to
        };
        self.sites[site].stations.iter().copied().find(is_it)
    }

    /// What happens to packets on the lines of a site is drawn anew from now on, as if the next one were the first.
    /// Two worlds with the same seed then do the same to the n-th packet from here, whatever they sent before.
    pub fn rewind_lines(&mut self, site: SiteId) {
        let here = &mut self.sites[usize::from(site.0)];
        here.up.iter_mut().chain(&mut here.down).for_each(Link::rewind);
    }

    pub(super) fn set_faults(&mut self, site: usize, faults: SiteFaults) {
        let here = &mut self.sites[site];
        here.faults = faults;
        for class in [CONTROL, DATA] {
            here.up[class].set_faults(self.now, faults.of(true, class));
            here.down[class].set_faults(self.now, faults.of(false, class));
            self.agenda.set(Part::Up(site, class), here.up[class].deadline());
            self.agenda.set(Part::Down(site, class), here.down[class].deadline());
        }
    }
}
