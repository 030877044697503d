//! How to open a device by name.

use crate::OpenError;

/// What [`Device::open`](crate::Device::open) opens and how.
///
/// The name `tun` lets the kernel pick the next free `tunN`; every other name is used literally and names either a
/// persistent interface that exists or one to be made. This is how OpenVPN reads `--dev`
/// (tun.c, `open_tun_generic`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    name: String,
    pub(crate) mtu: Option<u16>,
    pub(crate) txqueuelen: Option<u32>,
    pub(crate) persist: Option<bool>,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) offload: bool,
    pub(crate) multi_queue: bool,
}

/// `IFNAMSIZ` of Linux less the terminating zero, in bytes.
pub(crate) const MAX_NAME: usize = 15;

impl Options {
    /// Options for the interface `name`, with the kernel's defaults for everything else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mtu: None,
            txqueuelen: None,
            persist: None,
            owner: None,
            group: None,
            offload: false,
            multi_queue: false,
        }
    }

    /// Sets the interface MTU in bytes. Unset: the kernel's default, 1,500 for a new interface.
    #[must_use]
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Sets the transmit queue length in packets. Unset: the kernel's default, 500 for a new interface.
    #[must_use]
    pub fn txqueuelen(mut self, packets: u32) -> Self {
        self.txqueuelen = Some(packets);
        self
    }

    /// Makes the interface outlive this process (`true`) or vanish with its last descriptor (`false`). Unset: as it
    /// is, which for a new interface means it vanishes.
    #[must_use]
    pub fn persist(mut self, persist: bool) -> Self {
        self.persist = Some(persist);
        self
    }

    /// Sets the user id that may open a persistent interface without privileges.
    #[must_use]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Sets the group id that may open a persistent interface without privileges.
    #[must_use]
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Asks for super-packets (`IFF_VNET_HDR`, `TUNSETOFFLOAD`): many packets in one read and one write. See
    /// [`offload`](crate::offload), and [`Device::offload`](crate::Device::offload) for what the kernel grants.
    ///
    /// Such a device is read and written with [`Device::read`](crate::Device::read) and
    /// [`Device::write`](crate::Device::write).
    #[must_use]
    pub fn offload(mut self, offload: bool) -> Self {
        self.offload = offload;
        self
    }

    /// Makes the interface one that can have more queues than one
    /// ([`Device::add_queue`](crate::Device::add_queue)). A persistent interface that exists must have been made for
    /// that, and one that was made for it cannot be opened without.
    #[must_use]
    pub fn multi_queue(mut self, multi_queue: bool) -> Self {
        self.multi_queue = multi_queue;
        self
    }

    /// The name to ask the kernel for; `None` lets the kernel choose.
    ///
    /// # Errors
    ///
    /// [`OpenError::Name`] if no interface can have this name.
    pub(crate) fn kernel_name(&self) -> Result<Option<&str>, OpenError> {
        let reject = |why| Err(OpenError::Name { name: self.name.clone(), why });
        match self.name.as_str() {
            "tun" => Ok(None),
            "" => reject("it is empty"),
            "." | ".." => reject("the kernel reserves it"),
            name if name.len() > MAX_NAME => reject("it is longer than 15 bytes"),
            // '%' would make the kernel read the name as a pattern, ':' marks an address label.
            name if name.contains(|c: char| c.is_whitespace() || c.is_control() || "/%:".contains(c)) => {
                reject("it contains a blank, a control character or one of '/', '%', ':'")
            }
            name => Ok(Some(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_openvpn_reads_dev() {
        assert_eq!(Options::new("tun").kernel_name().unwrap(), None);
        for literal in ["tun0", "tun3", "vpn", "corp-vpn.1", "exactly15bytes_"] {
            assert_eq!(Options::new(literal).kernel_name().unwrap(), Some(literal));
        }
    }

    #[test]
    fn impossible_names_are_refused_with_the_reason() {
        for (name, why) in [
            ("", "empty"),
            ("sixteen_bytes_xx", "15 bytes"),
            ("a/b", "'/'"),
            ("tun%d", "'%'"),
            ("a b", "blank"),
            ("tun0:1", "':'"),
            ("..", "reserves"),
        ] {
            let error = Options::new(name).kernel_name().unwrap_err().to_string();
            assert!(error.contains(why), "{name:?}: {error}");
        }
    }
}
