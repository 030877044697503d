//! Bytes through a tunnel over TCP, checked where they come out.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    flood::{Random, inside},
    process::poll,
};

/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `len` bytes that depend on `seed` from the namespace `from` to `address` in the namespace `to`, and compares
/// what arrives.
pub fn carry(from: &str, (to, address): (&str, IpAddr), len: usize, seed: u64) -> Result<()> {
    let listener = inside(to, || Ok(TcpListener::bind(SocketAddr::new(address, 0))?))?;
    let there = listener.local_addr()?;
    let sender = inside(from, || Ok(TcpStream::connect_timeout(&there, PATIENCE)?));
    let sender = sender.with_context(|| format!("to {there}, from {from}"))?;
    listener.set_nonblocking(true)?;
    let accepted = poll(PATIENCE, || match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    let mut receiver = accepted.context("no connection")?;
    receiver.set_nonblocking(false)?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    sender.set_write_timeout(Some(PATIENCE))?;
    let bytes = content(len, seed);
    let mut got = Vec::with_capacity(len);
    thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let mut sender = sender;
            sender.write_all(&bytes)
        });
        let received = receiver.read_to_end(&mut got);
        sent.join().map_err(|_| anyhow!("a thread panicked"))?.context("sending")?;
        received.context("receiving")?;
        let wrong = got.iter().zip(&bytes).position(|(a, b)| a != b);
        ensure!(wrong.is_none() && got.len() == len, "{} of {len} bytes came, wrong at {wrong:?}", got.len());
        Ok(())
    })
}

/// Bytes of which no part is like another.
fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes: Vec<u8> =
        core::iter::repeat_with(|| random.next().to_le_bytes()).take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}
