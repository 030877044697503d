//! A deterministic stand-in for TLS in tests of the session machine: flights of chosen sizes, real record
//! framing, an exporter. It protects nothing.
//!
//! A record is `[length of the rest, u16][type][payload]`. Flights alternate, the client's first; each is sent
//! once the one before has arrived whole. The first 32 bytes of each side's first flight are its random.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{PeerIdentity, TlsFactory, TlsFailure, TlsFailureKind, TlsPhase, TlsSession};

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const DATA: u8 = 23;

/// Payload of a handshake record; larger flights take several.
const RECORD: usize = 1000;

/// Makes sessions of either side; each has a seed of its own.
pub(crate) struct FakeFactory {
    /// Bytes of each flight, at least 32 for the first two.
    pub(crate) flights: Vec<usize>,
    /// What the client says to the server's first flight, if it shall fail.
    pub(crate) refuse: Option<TlsFailure>,
    next: AtomicU64,
}

impl FakeFactory {
    /// Flights like those of TLS 1.3 with client certificate.
    pub(crate) fn new() -> Self {
        Self { flights: vec![230, 1900, 900], refuse: None, next: AtomicU64::new(1) }
    }
}

impl TlsFactory for FakeFactory {
    fn client(&self, _: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let mut end = End::new(true, self.flights.clone(), seed);
        end.refuse.clone_from(&self.refuse);
        end.advance();
        Ok(Box::new(end))
    }

    fn server(&self, _: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(End::new(false, self.flights.clone(), seed)))
    }
}

/// The server's end.
pub(crate) struct FakeServer(End);

impl FakeServer {
    /// `flights` as in the client's factory; `seed` fixes the server's random.
    pub(crate) fn new(flights: &[usize], seed: u64) -> Self {
        Self(End::new(false, flights.to_vec(), seed))
    }

    /// Puts bytes into the stream as they are.
    pub(crate) fn babble(&mut self, bytes: &[u8]) {
        self.0.output.extend_from_slice(bytes);
    }
}

struct End {
    client: bool,
    flights: Vec<usize>,
    /// Index of the flight that is sent or received next, and how much of it has arrived.
    flight: usize,
    arrived: usize,
    random: [u8; 32],
    peer_random: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
    records: VecDeque<Vec<u8>>,
    refuse: Option<TlsFailure>,
    failure: Option<TlsFailure>,
}

impl End {
    fn new(client: bool, flights: Vec<usize>, seed: u64) -> Self {
        let random =
            Sha256::new().chain_update([u8::from(client)]).chain_update(seed.to_be_bytes()).finalize();
        Self {
            client,
            flights,
            flight: 0,
            arrived: 0,
            random: random.into(),
            peer_random: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
            records: VecDeque::new(),
            refuse: None,
            failure: None,
        }
    }

    fn is_mine(&self, flight: usize) -> bool {
        flight.is_multiple_of(2) == self.client
    }

    fn push(&mut self, kind: u8, payload: &[u8]) {
        let len = u16::try_from(payload.len() + 1).expect("records are short");
        self.output.extend_from_slice(&len.to_be_bytes());
        self.output.push(kind);
        self.output.extend_from_slice(payload);
    }

    /// Sends our flight if it is our turn.
    fn advance(&mut self) {
        while self.flight < self.flights.len() && self.is_mine(self.flight) {
            let mut flight = vec![u8::try_from(self.flight).unwrap_or(0); self.flights[self.flight]];
            if self.flight < 2 {
                flight[..32].copy_from_slice(&self.random);
            }
            for part in flight.chunks(RECORD) {
                self.push(HANDSHAKE, part);
            }
            self.flight += 1;
        }
    }

    fn fail(&mut self, kind: TlsFailureKind, message: &str) -> TlsFailure {
        self.failure.get_or_insert_with(|| TlsFailure { kind, message: message.into() }).clone()
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> Result<(), TlsFailure> {
        match kind {
            ALERT => Err(self.fail(TlsFailureKind::Alert, "fake: received fatal alert")),
            DATA if self.phase() == TlsPhase::Ready => {
                self.records.push_back(payload.to_vec());
                Ok(())
            }
            HANDSHAKE if self.flight < self.flights.len() => {
                let missing = 32_usize.saturating_sub(self.peer_random.len());
                self.peer_random.extend_from_slice(&payload[..missing.min(payload.len())]);
                self.arrived += payload.len();
                if self.arrived >= self.flights[self.flight] {
                    if let Some(failure) = self.refuse.take() {
                        self.push(ALERT, &[2, 48]);
                        return Err(self.failure.insert(failure).clone());
                    }
                    self.arrived = 0;
                    self.flight += 1;
                    self.advance();
                }
                Ok(())
            }
            _ => {
                self.push(ALERT, &[2, 10]);
                Err(self.fail(TlsFailureKind::Protocol, "fake: unexpected record"))
            }
        }
    }
}

impl TlsSession for End {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.input.extend_from_slice(bytes);
        while let [high, low, rest @ ..] = self.input.as_slice() {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if len == 0 {
                return Err(self.fail(TlsFailureKind::Protocol, "fake: empty record"));
            }
            let Some(record) = rest.get(..len).map(<[u8]>::to_vec) else { break };
            self.input.drain(..2 + len);
            self.record(record[0], &record[1..])?;
        }
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> usize {
        let len = self.output.len();
        out.append(&mut self.output);
        len
    }

    fn read_record(&mut self, out: &mut Zeroizing<Vec<u8>>) -> bool {
        let Some(record) = self.records.pop_front() else { return false };
        out.extend_from_slice(&record);
        true
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        if self.phase() != TlsPhase::Ready {
            return Err(TlsFailure { kind: TlsFailureKind::Local, message: "fake: not ready".into() });
        }
        self.push(DATA, bytes);
        Ok(())
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        if self.phase() != TlsPhase::Ready {
            return Err(TlsFailure { kind: TlsFailureKind::Local, message: "fake: not ready".into() });
        }
        let (first, second) = match self.client {
            true => (&self.random[..], &self.peer_random[..]),
            false => (&self.peer_random[..], &self.random[..]),
        };
        for (block, part) in (0_u32..).zip(out.chunks_mut(32)) {
            let hash = Sha256::new().chain_update(block.to_be_bytes()).chain_update(label);
            let hash = hash.chain_update(first).chain_update(second).finalize();
            part.copy_from_slice(&hash[..part.len()]);
        }
        Ok(())
    }

    fn peer(&self) -> Option<PeerIdentity> {
        let name = if self.client { "server" } else { "client" };
        (self.phase() == TlsPhase::Ready).then(|| PeerIdentity {
            subject: format!("CN={name}"),
            common_name: Some(name.into()),
            fingerprint: [7; 32],
            chain: vec!["depth=1, CN=ca".into(), format!("depth=0, CN={name}")],
            warnings: Vec::new(),
            certificates: [].into(),
        })
    }

    fn phase(&self) -> TlsPhase {
        match &self.failure {
            Some(_) => TlsPhase::Closed,
            None if self.flight < self.flights.len() => TlsPhase::Handshaking,
            None => TlsPhase::Ready,
        }
    }

    fn description(&self) -> Option<String> {
        (self.phase() == TlsPhase::Ready).then(|| "TLSv1.3, cipher FAKE".into())
    }
}

impl TlsSession for FakeServer {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        self.0.feed(bytes)
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> usize {
        self.0.drain(out)
    }

    fn read_record(&mut self, out: &mut Zeroizing<Vec<u8>>) -> bool {
        self.0.read_record(out)
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        self.0.write_record(bytes)
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        self.0.export(label, out)
    }

    fn peer(&self) -> Option<PeerIdentity> {
        self.0.peer()
    }

    fn phase(&self) -> TlsPhase {
        self.0.phase()
    }

    fn description(&self) -> Option<String> {
        self.0.description()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready_pair(flights: &[usize]) -> (Box<dyn TlsSession>, FakeServer) {
        let mut factory = FakeFactory::new();
        factory.flights = flights.to_vec();
        let mut client = factory.client(Duration::ZERO).unwrap();
        let mut server = FakeServer::new(flights, 9);
        for _ in 0..flights.len() {
            for byte in drained(client.as_mut()) {
                server.feed(&[byte]).unwrap();
            }
            client.feed(&drained(&mut server)).unwrap();
        }
        (client, server)
    }

    fn drained(end: &mut dyn TlsSession) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(end.drain(&mut out), out.len());
        out
    }

    #[test]
    fn both_ends_get_ready_and_export_the_same() {
        for flights in [&[230, 1900, 900][..], &[200, 3000, 1100, 60], &[32, 32]] {
            let (mut client, mut server) = ready_pair(flights);
            assert_eq!((client.phase(), server.phase()), (TlsPhase::Ready, TlsPhase::Ready), "{flights:?}");
            let (mut a, mut b, mut other) = ([0; 100], [0; 100], [0; 100]);
            client.export("label", &mut a).unwrap();
            server.export("label", &mut b).unwrap();
            server.export("other", &mut other).unwrap();
            assert_eq!(a, b);
            assert_ne!(a, other);
        }
    }

    #[test]
    fn sessions_of_one_factory_meet() {
        let factory = FakeFactory::new();
        let mut exported = Vec::new();
        for cut in [1, 700, 10_000] {
            let mut client = factory.client(Duration::ZERO).unwrap();
            let mut server = factory.server(Duration::ZERO).unwrap();
            assert_eq!((client.peer(), server.peer()), (None, None));
            while client.phase() != TlsPhase::Ready || server.phase() != TlsPhase::Ready {
                let (up, down) = (drained(client.as_mut()), drained(server.as_mut()));
                assert!(!up.is_empty() || !down.is_empty(), "stuck");
                up.chunks(cut).for_each(|piece| server.feed(piece).unwrap());
                down.chunks(cut).for_each(|piece| client.feed(piece).unwrap());
            }
            let names = [client.peer(), server.peer()].map(|peer| peer.and_then(|peer| peer.common_name));
            assert_eq!(names, [Some("server".into()), Some("client".into())]);
            let (mut ours, mut theirs) = ([0; 256], [0; 256]);
            client.export("EXPORTER-OpenVPN-datakeys", &mut ours).unwrap();
            server.export("EXPORTER-OpenVPN-datakeys", &mut theirs).unwrap();
            assert_eq!(ours, theirs);
            assert!(!exported.contains(&ours), "each session has keys of its own");
            exported.push(ours);
            server.settle();
            client.write_record(b"PUSH_REQUEST\0").unwrap();
            server.feed(&drained(client.as_mut())).unwrap();
            let mut got = Zeroizing::new(Vec::new());
            assert!(server.read_record(&mut got));
            server.write_record(&got).unwrap();
            client.feed(&drained(server.as_mut())).unwrap();
            assert!(client.read_record(&mut got));
            assert_eq!(got.as_slice(), b"PUSH_REQUEST\0PUSH_REQUEST\0");
        }
    }

    #[test]
    fn records_keep_their_borders() {
        let (mut client, mut server) = ready_pair(&[230, 1900, 900]);
        client.write_record(b"one").unwrap();
        client.write_record(b"two").unwrap();
        server.feed(&drained(client.as_mut())).unwrap();
        let mut got = Zeroizing::new(Vec::new());
        assert!(server.read_record(&mut got));
        assert_eq!(got.as_slice(), b"one");
        assert!(server.read_record(&mut got));
        assert!(!server.read_record(&mut got));
        assert_eq!(got.as_slice(), b"onetwo");
    }

    #[test]
    fn a_refusal_comes_out_as_alert() {
        let mut factory = FakeFactory::new();
        factory.refuse = Some(TlsFailure { kind: TlsFailureKind::Certificate, message: "no".into() });
        let mut client = factory.client(Duration::ZERO).unwrap();
        let mut server = FakeServer::new(&factory.flights, 1);
        server.feed(&drained(client.as_mut())).unwrap();
        assert_eq!(client.feed(&drained(&mut server)).unwrap_err().message, "no");
        assert_eq!(client.phase(), TlsPhase::Closed);
        assert_eq!(server.feed(&drained(client.as_mut())).unwrap_err().kind, TlsFailureKind::Alert);
    }
}
