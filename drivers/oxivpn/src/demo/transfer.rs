//! A plain TCP transfer, for programs of the demo that run in different network namespaces.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::tell;
use crate::clock;

/// How long the sender sends.
const SENDING: Duration = Duration::from_secs(3);

/// Takes one connection at `address` and prints how fast its bytes came.
pub(super) fn receive(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
    let (mut stream, from) = listener.accept()?;
    let mut buffer = vec![0; 256 << 10];
    let (begin, mut bytes) = (clock::now(), 0u64);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            n => bytes += n as u64,
        }
    }
    let seconds = (clock::now() - begin).as_secs_f64();
    tell(&format!(
        "    {:.1} MB from {} in {seconds:.1} s: {:.0} Mbit/s",
        bytes as f64 / 1e6,
        from.ip(),
        bytes as f64 * 8.0 / 1e6 / seconds
    ));
    Ok(())
}

/// Sends to `address` for a while.
pub(super) fn send(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let block = vec![0x5a; 256 << 10];
    let begin = clock::now();
    while clock::now() - begin < SENDING {
        stream.write_all(&block)?;
    }
    Ok(())
}
