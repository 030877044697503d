//! Packets on the wire, captured with `tcpdump` and read as far as OpenVPN's first byte.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    netns::{Lab, Side},
    process::{Process, command_in},
};

/// Opcode of a renegotiation's first packet.
pub const P_CONTROL_SOFT_RESET_V1: u8 = 3;
/// Opcode of data with a peer-id.
pub const P_DATA_V2: u8 = 9;

/// One datagram of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub from: Side,
    /// Upper five bits of the first byte.
    pub opcode: u8,
    /// Lower three bits of the first byte.
    pub key_id: u8,
    /// Length of the datagram's payload in bytes.
    pub len: usize,
}

/// A capture under way, UDP on port 1194 of the link.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts and waits until packets are seen.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::start_in(lab.ns(Side::Server), lab.dir())
    }

    /// Starts in the server's namespace `ns`, with its files in `dir`.
    pub fn start_in(ns: &str, dir: &Path) -> Result<Self> {
        let file = dir.join("link.pcap");
        let mut command = command_in(ns, "tcpdump");
        command.args(["-n", "-U", "--immediate-mode", "-Z", "root", "-i", "eth0", "-w"]);
        command.arg(&file).args(["udp", "port", "1194"]);
        let mut process = Process::spawn("tcpdump", command, &dir.join("tcpdump.log"))?;
        process.wait_for("listening on", Duration::from_secs(5))?;
        Ok(Self { process, file })
    }

    /// Ends the capture and returns its packets in order.
    pub fn finish(self) -> Result<Vec<Packet>> {
        Ok(self.payloads()?.into_iter().map(|(packet, _)| packet).collect())
    }

    /// Ends the capture and returns its packets in order, each with its payload.
    pub fn payloads(mut self) -> Result<Vec<(Packet, Vec<u8>)>> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait_exit(Duration::from_secs(5))?;
        parse(&fs::read(&self.file)?)
    }
}

/// Reads a pcap file in the machine's byte order, Ethernet.
fn parse(bytes: &[u8]) -> Result<Vec<(Packet, Vec<u8>)>> {
    let number = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    ensure!(number(0) == Some(0xa1b2_c3d4), "not a pcap file of this machine");
    let mut packets = Vec::new();
    let mut at = 24;
    while let Some(captured) = number(at + 8) {
        let frame = bytes.get(at + 16..at + 16 + captured as usize).context("truncated pcap file")?;
        packets.extend(datagram(frame));
        at += 16 + captured as usize;
    }
    Ok(packets)
}

fn datagram(frame: &[u8]) -> Option<(Packet, Vec<u8>)> {
    let udp = match frame.get(12..14)? {
        [0x08, 0x00] => frame.get(14 + usize::from(frame.get(14)? & 15) * 4..)?,
        [0x86, 0xdd] => frame.get(14 + 40..)?,
        _ => return None,
    };
    let port = u16::from_be_bytes([*udp.first()?, *udp.get(1)?]);
    let len = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?])).checked_sub(8)?;
    let first = *udp.get(8)?;
    let from = if port == 1194 { Side::Server } else { Side::Client };
    // What a fragment holds, if the datagram came in several.
    let payload = udp[8..].iter().copied().take(len).collect();
    Some((Packet { from, opcode: first >> 3, key_id: first & 7, len }, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_direction_opcode_and_key_id() {
        let mut file = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        file.resize(24, 0);
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45]);
        frame.resize(34, 0);
        frame.extend([0x04, 0xaa, 0x12, 0x34, 0, 8 + 3, 0, 0, 9 << 3 | 5, 0, 0]);
        file.extend([0; 8]);
        file.extend(u32::try_from(frame.len()).unwrap().to_ne_bytes());
        file.extend([0; 4]);
        file.extend(&frame);
        let expected = Packet { from: Side::Server, opcode: P_DATA_V2, key_id: 5, len: 3 };
        assert_eq!(parse(&file).unwrap(), [(expected, vec![9 << 3 | 5, 0, 0])]);
        file.pop();
        assert!(parse(&file).is_err());
    }
}
