//! A tunnel between two devices of one process, without its cipher.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oxivpn_tun::Device;
use oxivpn_tun::offload::{Coalescer, Gso, Split};

/// The largest packet that may come.
pub(crate) const MTU: u16 = 1400;

/// What went one way.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) packets: usize,
    pub(crate) tcp_reads: usize,
    pub(crate) udp_reads: usize,
    /// Packets beyond one in each write.
    pub(crate) merged: usize,
}

/// One direction of a tunnel without its cipher.
struct Lane<'a> {
    from: &'a Device,
    to: &'a Device,
    slab: Vec<u8>,
    coalescer: Coalescer,
    seen: Seen,
}

impl<'a> Lane<'a> {
    fn new(from: &'a Device, to: &'a Device) -> Self {
        let coalescer = Coalescer::new(to.offload());
        Self { from, to, slab: vec![0; 600_000], coalescer, seen: Seen::default() }
    }

    /// Moves all that waits.
    fn pump(&mut self, buf: &mut [u8]) {
        let mut used = 0;
        loop {
            let (header, len) = match self.from.read(buf) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            };
            match header.gso {
                Gso::None => {}
                Gso::UdpL4 => self.seen.udp_reads += 1,
                Gso::TcpV4 | Gso::TcpV6 => self.seen.tcp_reads += 1,
            }
            let mut split = Split::new(&header, &buf[..len]).unwrap();
            while let Some(next) = split.next_len() {
                assert!(next <= MTU.into(), "{next} bytes on an interface of {MTU}");
                if self.slab.len() < used + next {
                    self.flush();
                    used = 0;
                }
                split.write_next(&mut self.slab[used..]).unwrap();
                if !self.coalescer.push(&self.slab, used..used + next) {
                    let moved = self.slab[used..used + next].to_vec();
                    self.flush();
                    used = 0;
                    self.slab[..next].copy_from_slice(&moved);
                    assert!(self.coalescer.push(&self.slab, 0..next));
                }
                used += next;
                self.seen.packets += 1;
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let flushed = self.coalescer.flush(&self.slab, |parts| self.to.write(parts));
        assert!(flushed.refused == 0, "{flushed:?}");
        self.seen.merged += flushed.written - flushed.writes;
    }
}

/// Pumps both ways while `work` is at it, and says what went from `a` to `b` and from `b` to `a`.
pub(crate) fn while_pumping(a: &Device, b: &Device, work: impl FnOnce()) -> (Seen, Seen) {
    let (stop, stopped) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let pump = scope.spawn(move || {
            let mut lanes = [Lane::new(a, b), Lane::new(b, a)];
            let mut buf = vec![0; 65_536];
            loop {
                let mut wanted = [
                    PollFd::new(a.as_fd().unwrap(), PollFlags::POLLIN),
                    PollFd::new(b.as_fd().unwrap(), PollFlags::POLLIN),
                    PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                ];
                poll(&mut wanted, PollTimeout::NONE).unwrap();
                if wanted[2].any() == Some(true) {
                    return (lanes[0].seen, lanes[1].seen);
                }
                lanes.iter_mut().for_each(|lane| lane.pump(&mut buf));
            }
        });
        // Also when the work panics.
        let guard = stop;
        work();
        drop(guard);
        pump.join().unwrap()
    })
}
