//! Every way a packet can end without effect, counted.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why a packet was dropped. Remote input never makes an error, it makes one of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

drop_reasons! {
    /// Shorter than its header says, or longer than any legal packet.
    Malformed,
    /// Opcode outside of what exists.
    UnknownOpcode,
    /// Opcode that this role never receives.
    UnexpectedOpcode,
    /// From an address that has no session.
    UnknownPath,
    /// Peer-id that no peer has.
    UnknownPeer,
    /// HMAC or tag of the control channel protection is wrong.
    WrapAuthentication,
    /// Replayed or too old control packet.
    WrapReplay,
    /// Sender's session id is not the one of the session.
    WrongSessionId,
    /// The receiver's session id in the ack block is not ours.
    WrongAckSessionId,
    /// Key-id of a control packet is not the current one.
    WrongKeyId,
    /// More than eight acks.
    TooManyAcks,
    /// Outside of the receive window, or no room.
    OutOfWindow,
    /// Seen before (it is acknowledged again).
    Duplicate,
    /// Early negotiation records in a reset that cannot be parsed.
    EarlyNegotiation,
    /// A control message that is not text, or unknown, or not for this role.
    ControlMessage,
    /// No receive key with this key-id.
    NoKey,
    /// Tag of a data packet is wrong.
    DataAuthentication,
    /// Replayed or too old data packet.
    DataReplay,
    /// Epoch outside of the accepted window.
    WrongEpoch,
    /// This key failed so often that it takes no more packets.
    KeyWorn,
    /// Decrypted payload is neither an IP packet nor a known message.
    NotIp,
    /// Decrypted payload is compressed; nothing is decompressed here.
    Compressed,
    /// Decrypted payload doesn't have the compression framing that was agreed upon.
    Framing,
    /// Inner source address that the peer doesn't own.
    InnerSource,
    /// No peer for the inner destination address.
    NoRoute,
    /// Data before the tunnel is up.
    NotUp,
    /// A session could not be made for a new client: TLS settings are unusable.
    Refused,
    /// Another handshake from the same address has only just begun; or one is up there, and this may be a lure.
    UnderWay,
    /// A data packet was given to the control machine.
    DataAtControl,
    /// The packet that should begin a session lacks the session id we gave to its sender, or has an old one.
    Cookie,
    /// More connection attempts than `connect-freq` or `connect-freq-initial` allows.
    RateLimited,
    /// The wrapped client key of tls-crypt-v2 was not made with our key.
    ClientKey,
    /// The client key of tls-crypt-v2 is older than allowed, or bears no date.
    ClientKeyAge,
    /// A tls-crypt-v2 client that can't send its key twice, and `force-cookie` is set.
    CookieUnsupported,
    /// As many clients as allowed are there already.
    Full,
    /// A router marked congestion on the outer header of a packet whose sender understands drops only (RFC 6040, 4.2).
    Congestion,
}

/// One counter for each [`DropReason`].
#[derive(Clone, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        if let Some(n) = self.0.get_mut(reason as usize) {
            *n = n.saturating_add(1);
        }
    }

    /// How many packets ended so.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// All reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.get(r))).filter(|&(_, n)| n > 0)
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = a.saturating_add(b);
        }
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl core::fmt::Debug for DropCounters {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
