//! `ping` with its statistics read.

use anyhow::{Context, Result, ensure};
use regex::Regex;

use crate::process::{command_in, output_in};
use std::process::{Child, Stdio};

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
        let numbers = [
            ("-c", self.count.to_string()),
            ("-i", self.interval.to_string()),
            ("-s", self.size.to_string()),
            ("-W", "2".into()),
        ];
        let mut words = vec!["ping".to_owned(), "-n".into(), "-q".into()];
        for (flag, value) in numbers {
            words.extend([flag.to_owned(), value]);
        }
        words.push(self.to.to_owned());
        words
    }

    fn parse(&self, stdout: &[u8], stderr: &[u8]) -> Result<u32> {
        let text = String::from_utf8_lossy(stdout);
        let regex = Regex::new(r"(\d+) packets transmitted, (\d+) received")?;
        let found = regex.captures(&text).with_context(|| {
            format!("ping {}: no statistics: {text}{}", self.to, String::from_utf8_lossy(stderr))
        })?;
        let received: u32 = found[2].parse()?;
        // Counted against what was asked for: a request that could not be sent is lost as well.
        Ok(self.count.saturating_sub(received))
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
