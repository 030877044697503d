//! `ping` with its statistics read.

use std::{
    collections::BTreeSet,
    process::{Child, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

use crate::process::{command_in, output_in};

/// How long an answer may take, in seconds.
const PATIENCE: f32 = 5.0;

/// What to send: `ping -c count -i interval -s size destination`.
#[derive(Clone, Copy, Debug)]
pub struct Ping<'a> {
    /// Namespace to send from.
    pub ns: &'a str,
    /// Address to ping, IPv4 or IPv6.
    pub to: &'a str,
    /// Number of echo requests.
    pub count: u32,
    /// Seconds between two requests.
    pub interval: f32,
    /// Payload bytes.
    pub size: u32,
}

impl<'a> Ping<'a> {
    /// Three quick pings of the usual size.
    pub fn new(ns: &'a str, to: &'a str) -> Self {
        Self { ns, to, count: 3, interval: 0.05, size: 56 }
    }

    /// Sends and waits for all answers; returns how many of them were lost.
    pub fn lost(self) -> Result<u32> {
        let words = self.words();
        let argv: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = output_in(self.ns, &argv)?;
        self.parse(&output.stdout, &output.stderr)
    }

    /// Sends and requires every answer.
    pub fn all(self) -> Result<()> {
        let lost = self.lost()?;
        ensure!(lost == 0, "{lost} of {} pings of {} bytes to {} lost", self.count, self.size, self.to);
        Ok(())
    }

    /// Starts sending in the background.
    pub fn start(self) -> Result<Running<'a>> {
        let words = self.words();
        let child = command_in(self.ns, &words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Running { ping: self, child: Some(child) })
    }

    fn words(&self) -> Vec<String> {
        // With `-c` alone, ping leaves two round-trip times after the last request, which on a busy host makes late
        // answers lost ones. With a deadline as well it goes on until `count` answers are in; see `parse`.
        let deadline = self.count as f32 * self.interval + PATIENCE;
        let numbers = [
            ("-c", self.count.to_string()),
            ("-i", self.interval.to_string()),
            ("-s", self.size.to_string()),
            ("-w", deadline.ceil().to_string()),
        ];
        let mut words = vec!["ping".to_owned(), "-n".into()];
        for (flag, value) in numbers {
            words.extend([flag.to_owned(), value]);
        }
        words.push(self.to.to_owned());
        words
    }

    fn parse(&self, stdout: &[u8], stderr: &[u8]) -> Result<u32> {
        let text = String::from_utf8_lossy(stdout);
        if !text.contains("packets transmitted") {
            bail!("ping {}: no statistics: {text}{}", self.to, String::from_utf8_lossy(stderr));
        }
        // Only the first `count` requests matter: more are sent when an answer is missing or late.
        let regex = Regex::new(r"icmp_seq=(\d+) ttl=")?;
        let numbers = regex.captures_iter(&text).filter_map(|found| found[1].parse().ok());
        let answered: BTreeSet<u32> = numbers.filter(|number| (1..=self.count).contains(number)).collect();
        Ok(self.count - u32::try_from(answered.len())?)
    }
}

/// A ping under way.
#[derive(Debug)]
pub struct Running<'a> {
    ping: Ping<'a>,
    child: Option<Child>,
}

impl Running<'_> {
    /// Waits for its end; returns how many answers were lost.
    pub fn lost(mut self) -> Result<u32> {
        let output = self.child.take().context("ping was already waited for")?.wait_with_output()?;
        self.ping.parse(&output.stdout, &output.stderr)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_count_and_extra_requests_do_not() {
        let ping = Ping::new("ns", "10.8.0.1");
        let answer = |n: u32| format!("64 bytes from 10.8.0.1: icmp_seq={n} ttl=64 time=0.1 ms\n");
        let lost = |seen: &[u32]| {
            let text: String = seen.iter().map(|&n| answer(n)).collect();
            ping.parse(format!("{text}\n4 packets transmitted, 3 received\n").as_bytes(), b"").unwrap()
        };
        assert_eq!(lost(&[1, 2, 3]), 0);
        assert_eq!(lost(&[1, 3, 4]), 1);
        assert_eq!(lost(&[2, 1, 1, 3]), 0);
        assert_eq!(lost(&[]), 3);
        assert!(ping.parse(b"", b"ping: unknown host").is_err());
    }
}
