//! What the server writes for others: status file, pool file, statistics.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use oxivpn_proto::Instant;

use super::Server;
use super::worker::Passed;
use crate::status::{self, ClientStatus, RouteStatus, ServerStatus, Snapshot};
use crate::{clock, privileges, say};

impl Server {
    /// Fresh sums are there.
    pub(super) fn on_totals(&mut self, now: Instant) {
        if core::mem::take(&mut self.status_asked) {
            self.write_status(now);
        }
        self.manage_totals();
        if core::mem::take(&mut self.statistics_wanted) {
            let table = status::render(&self.snapshot(), 1);
            for line in table.lines().filter(|line| *line != "END") {
                say!(self.log, Info, "{line}");
            }
            let mut drops = self.node.drops();
            drops.merge(&self.totals.drops);
            for (reason, count) in drops.iter() {
                say!(self.log, Info, "dropped {reason:?},{count}");
            }
            if self.totals.traffic.congested > 0 {
                say!(self.log, Info, "congestion marks passed on,{}", self.totals.traffic.congested);
            }
            let shares = Some(&self.totals.shares).filter(|shares| shares.len() > 1);
            for (number, passed) in shares.into_iter().flatten().enumerate() {
                let Passed { packets, handed, refused } = passed;
                say!(
                    self.log,
                    Info,
                    "worker {number}: {packets} packets read, {handed} handed over to other workers, {refused} dropped because \
                     those were behind"
                );
            }
            say!(self.log, Info, "END");
            if let Some(faults) = &self.faults {
                faults.statistics();
            }
        }
    }

    pub(super) fn write_status(&mut self, now: Instant) {
        let snapshot = self.snapshot();
        if let Some(file) = &mut self.status
            && let Err(error) = file.write(now, &snapshot)
        {
            say!(self.log, Warn, "WARNING: cannot write the status file: {error}");
        }
    }

    /// The clients that were let in.
    pub(super) fn snapshot(&self) -> Snapshot {
        let unix = clock::unix().as_secs();
        let mut status = ServerStatus { unix, ..ServerStatus::default() };
        for (_, client) in self.clients.iter().filter(|(_, client)| client.connected) {
            let name = Some(client.name.to_string()).filter(|name| !name.is_empty());
            let lease = client.lease.as_ref();
            status.clients.push(ClientStatus {
                common_name: name.clone(),
                remote: client.remote,
                ip4: lease.and_then(|lease| lease.v4()).map(|v4| v4.local),
                ip6: lease.and_then(|lease| lease.v6()).map(|(net, _)| net.addr()),
                received: client.received(),
                sent: client.sent(),
                since: client.since.as_secs(),
                username: client.username.as_deref().map(str::to_owned),
                cid: client.cid,
                peer_id: client.peer.map_or(0, |peer| peer.id.get()),
                cipher: client.cipher.map(|cipher| cipher.name().to_owned()).unwrap_or_default(),
            });
            let nets = lease.into_iter().flat_map(|lease| lease.nets());
            for net in nets.filter(|net| !client.refused.contains(net)) {
                status.routes.push(RouteStatus {
                    net: *net,
                    cached: false,
                    common_name: name.clone(),
                    remote: client.remote,
                    last_used: unix,
                });
            }
        }
        Snapshot::Server(status)
    }

    /// Writes who has which address, in one step, so that a crash leaves the old file or the new one.
    pub(super) fn write_pool(&mut self, now: Instant) {
        let Some((path, every)) = &self.options.pool_persist else { return };
        if every.is_zero() || !core::mem::take(&mut self.pool_changed) {
            return;
        }
        self.pool_due = Some(now + *every);
        let text = self.addressing.persist();
        let written = match &self.pool_file {
            // Files can't be made there any more.
            Some(file) if privileges::dropped() => overwrite(file, &text),
            _ => replace(path, &text),
        };
        if let Err(error) = written {
            say!(self.log, Warn, "WARNING: cannot write {}: {error}", path.display());
        }
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let whole = tempfile::NamedTempFile::new_in(dir).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    });
    // Without the right to make files there the file that is there may still be written.
    whole.or_else(|_| std::fs::write(path, text))
}

fn overwrite(file: &File, text: &str) -> std::io::Result<()> {
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ipp.txt");
        replace(&path, "c1,10.8.0.2,\nc2,10.8.0.3,\n").unwrap();
        replace(&path, "c1,10.8.0.2,\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "c1,10.8.0.2,\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(Path::new("/nonexistent/ipp.txt"), "").is_err());
        let open = File::options().write(true).open(&path).unwrap();
        for text in ["c1,10.8.0.2,\nc2,10.8.0.3,\n", "c2,10.8.0.3,\n"] {
            overwrite(&open, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
