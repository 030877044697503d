//! Byte streams between machines.

use std::collections::VecDeque;

use core::net::SocketAddr;

use oxivpn_proto::wire::stream::{Deframer, frame_header};
use oxivpn_proto::{Path, StreamId};

use super::agenda::Part;
use super::{State, World};
use crate::pipe::{End, Pipe};
use crate::seed::Branch;
use crate::trace::Seen;

/// Bytes that wait at a machine for room on a stream; beyond it no more data is sealed.
const BACKLOG: usize = 32 * 1024;

/// The longest packet on a stream.
const LONGEST: usize = 2000;

/// A stream between two machines.
pub(super) struct Stream {
    pipe: Pipe,
    /// Machine and its name for the stream, at both ends. The first one opened it.
    ends: [(usize, StreamId); 2],
}

/// A machine's end of a stream.
pub(super) struct Line {
    stream: u32,
    end: End,
    /// Bytes that had no room yet.
    backlog: VecDeque<u8>,
    /// Bytes that are no whole packet yet.
    partial: Vec<u8>,
}

impl World {
    /// Opens a stream to whom the machine calls. Connecting takes no time of its own; the first bytes do.
    pub(super) fn dial(&mut self, index: usize, id: StreamId) {
        let remote = self.stations[index].machine.role().calls().map(|(remote, ..)| remote);
        let site = remote.and_then(|remote| self.by_address.get(&remote.ip()).copied());
        let other = site.and_then(|site| {
            let listens = |&other: &usize| self.stations[other].machine.role().calls().is_none();
            self.sites[site].stations.iter().copied().find(listens)
        });
        let number = self.next_stream;
        self.next_stream += 1;
        let seeds = self.seeds.branch(Branch::Pipe, number);
        let pipe = Pipe::new(self.pipe_faults, &seeds, number);
        let line = |end| Line { stream: number, end, backlog: VecDeque::new(), partial: Vec::new() };
        self.stations[index].lines.insert(id, line(End::A));
        let running = other.filter(|&other| self.stations[other].state == State::Running);
        let Some(other) = running else {
            // Nobody is there: refused.
            self.streams.insert(number, Stream { pipe, ends: [(index, id), (index, id)] });
            self.end_stream(number, true);
            return;
        };
        let theirs = self.stations[other].machine.accept();
        self.stations[other].lines.insert(theirs, line(End::B));
        self.streams.insert(number, Stream { pipe, ends: [(index, id), (other, theirs)] });
    }

    pub(super) fn send_on_stream(&mut self, index: usize, id: StreamId, bytes: &[u8]) {
        let Some(header) = frame_header(bytes.len()) else { return };
        let Some(line) = self.stations[index].lines.get_mut(&id) else { return };
        line.backlog.extend(header);
        line.backlog.extend(bytes);
        let number = line.stream;
        self.tape.mix(self.now, u64::from(number), bytes);
        self.pump(index, id);
    }

    /// Moves a machine's waiting bytes into the stream.
    fn pump(&mut self, index: usize, id: StreamId) {
        let now = self.now;
        let Some(line) = self.stations[index].lines.get_mut(&id) else { return };
        let Some(stream) = self.streams.get_mut(&line.stream) else { return };
        let bytes = line.backlog.make_contiguous();
        let taken = stream.pipe.write(now, line.end, bytes);
        let chunk = bytes[..taken].to_vec();
        line.backlog.drain(..taken);
        let (number, end, full) = (line.stream, line.end, line.backlog.len() > BACKLOG);
        let deadline = stream.pipe.deadline();
        self.stations[index].machine.set_congested(id, full);
        if !chunk.is_empty() {
            let addresses = self.stream_addresses(number, end);
            self.tape.frame(now, Seen::Sent, addresses, true, &chunk);
        }
        self.agenda.set(Part::Pipe(number), deadline);
    }

    /// Sender's and receiver's address of what leaves the stream's `end`.
    fn stream_addresses(&self, number: u32, end: End) -> (SocketAddr, SocketAddr) {
        let at = |side: usize| {
            let (index, _) = self.streams[&number].ends[side];
            let port = if side == 0 { 20_000 + (number % 40_000) as u16 } else { super::PORT };
            SocketAddr::new(self.stations[index].address, port)
        };
        match end {
            End::A => (at(0), at(1)),
            End::B => (at(1), at(0)),
        }
    }

    pub(super) fn call_stream(&mut self, number: u32) {
        for (side, end) in [End::A, End::B].into_iter().enumerate() {
            while let Some(stream) = self.streams.get_mut(&number) {
                let Some(chunk) = stream.pipe.poll_read(self.now, end) else { break };
                let (index, id) = stream.ends[side];
                let addresses = self.stream_addresses(number, if end == End::A { End::B } else { End::A });
                self.tape.frame(self.now, Seen::Received, addresses, true, &chunk);
                self.take_chunk(index, id, &chunk);
            }
        }
        let Some(stream) = self.streams.get(&number) else { return };
        let ends = stream.ends;
        if stream.pipe.is_closed(End::A) && stream.pipe.is_closed(End::B) {
            return self.end_stream(number, false);
        }
        for (index, id) in ends {
            self.pump(index, id);
        }
        let deadline = self.streams.get(&number).and_then(|stream| stream.pipe.deadline());
        self.agenda.set(Part::Pipe(number), deadline);
    }

    fn take_chunk(&mut self, index: usize, id: StreamId, chunk: &[u8]) {
        if self.stations[index].state != State::Running {
            return;
        }
        let Some(line) = self.stations[index].lines.get_mut(&id) else { return };
        line.partial.extend_from_slice(chunk);
        let number = line.stream;
        let mut bytes = core::mem::take(&mut line.partial);
        let mut frames = Deframer::new(LONGEST).frames(&mut bytes);
        let (mut packets, mut broken) = (Vec::new(), false);
        for frame in &mut frames {
            match frame {
                Ok(packet) => packets.push(packet.to_vec()),
                Err(_) => broken = true,
            }
        }
        let consumed = frames.consumed();
        bytes.drain(..consumed);
        line.partial = bytes;
        for packet in packets {
            self.with(index, |machine, now| machine.handle_packet(now, Path::Stream(id), packet));
        }
        if broken {
            self.end_stream(number, true);
        }
    }

    /// The machine closes its end: an orderly end for what is on its way.
    pub(super) fn hang_up(&mut self, index: usize, id: StreamId) {
        let Some(line) = self.stations[index].lines.remove(&id) else { return };
        if let Some(stream) = self.streams.get_mut(&line.stream) {
            stream.pipe.close(self.now, line.end);
            self.agenda.set(Part::Pipe(line.stream), Some(self.now));
        }
    }

    /// Tells those who still have an end that the stream is over.
    pub(super) fn end_stream(&mut self, number: u32, reset: bool) {
        let Some(mut stream) = self.streams.remove(&number) else { return };
        if reset {
            stream.pipe.reset(self.now);
        }
        self.agenda.set(Part::Pipe(number), None);
        for (index, id) in stream.ends {
            if self.stations[index].lines.get(&id).is_some_and(|line| line.stream == number) {
                self.stations[index].lines.remove(&id);
                self.stations[index].machine.set_congested(id, false);
                self.with(index, |machine, now| machine.handle_stream_closed(now, id));
            }
        }
    }

    /// Takes all faults from the streams that there are.
    pub(super) fn heal_streams(&mut self) {
        for (&number, stream) in &mut self.streams {
            stream.pipe.set_faults(self.now, self.pipe_faults);
            self.agenda.set(Part::Pipe(number), stream.pipe.deadline());
        }
    }

    /// Breaks all streams of a machine, as a reboot or a router on the way does.
    pub(super) fn reset_streams(&mut self, index: usize) {
        let numbers: Vec<u32> = self.stations[index].lines.values().map(|line| line.stream).collect();
        for number in numbers {
            self.end_stream(number, true);
        }
    }
}
