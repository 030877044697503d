//! Every bound in one place, each with its reason.

/// Largest control packet that is read: 1,600 bytes of TLS payload (`openvpn: ssl.c`, buffer of
/// `max(1500, tls-mtu) + 100`) plus the largest wrap and a 1,024-byte wrapped client key, rounded up.
pub const MAX_CONTROL_DATAGRAM: usize = 3072;

/// Acks in one packet (`openvpn: reliable.h`, `RELIABLE_ACK_SIZE`).
pub const MAX_ACKS: usize = 8;

/// Acks that ride on a reliable packet (`openvpn: ssl.h`, `CONTROL_SEND_ACK_MAX`).
pub const MAX_PIGGYBACK_ACKS: usize = 4;

/// Reliable packets in flight; older peers have only 8 receive slots.
pub const SEND_WINDOW: u32 = 6;

/// Reliable packets held back for reordering.
pub const RECV_WINDOW: u32 = 12;

/// Plaintext of one TLS record on the control channel, which is also the longest key-method-2 message
/// (`openvpn: common.h`, `TLS_CHANNEL_BUF_SIZE`). What we send stays below; OpenVPN 3 takes up to 65,536.
pub const MAX_TLS_PLAINTEXT: usize = 2048;

/// Plaintext of one received record that we still take; the limit of a TLS record.
pub const MAX_RECORD_PLAINTEXT: usize = 16384;

/// Received TLS records that wait for their reader; the session reads after each packet.
pub const MAX_TLS_RECORDS: usize = 64;

/// Bytes of plaintext of waiting records, and of sealed bytes not drained yet.
pub const MAX_TLS_BUFFER: usize = 1 << 20;

/// Certificates beside its own that a peer may send: twice the depth that OpenVPN follows (`openvpn:
/// ssl_common.h`, `MAX_CERT_DEPTH`), as some send what is not needed.
pub const MAX_SENT_CERTS: usize = 32;

/// Records without content in a row that a peer may send on an established TLS session.
pub const MAX_IDLE_RECORDS: u8 = 32;

/// Records sealed with one key of an established TLS session: the limit of AES-GCM (RFC 8446, 5.5), rounded down.
/// The control channel needs a few hundred.
pub const MAX_SEALED_RECORDS: u64 = 1 << 24;

/// Configurations of TLS server connections that are kept for the next handshakes, some 1 KiB each.
pub const MAX_IDLE_DESKS: usize = 64;

/// Bytes of the names of CAs that a server tells its clients; with more it tells none.
pub const MAX_CA_NAMES: usize = 2048;

/// Options string in key method 2, with its NUL (`openvpn: ssl.c`).
pub const MAX_OPTIONS_STRING: usize = 512;

/// User name or password in key method 2, with its NUL: what a stock server takes.
pub const MAX_USER_PASS: usize = 128;

/// Bytes of all parts of one PUSH_REPLY together: about 60 full messages, far beyond the largest real ones.
pub const MAX_PUSH_BYTES: usize = 65536;

/// Options of one PUSH_REPLY.
pub const MAX_PUSH_OPTIONS: usize = 4096;

/// Parameters of one option (`openvpn: options.h`, `MAX_PARMS`).
pub const MAX_OPTION_ARGS: usize = 16;

/// Wrapped client key (`openvpn: tls_crypt.h`, `TLS_CRYPT_V2_MAX_WKC_LEN`).
pub const MAX_WKC: usize = 1024;

/// Smallest `max-packet-size` (`openvpn: options.c`).
pub const MIN_CONTROL_PACKET: u16 = 154;

/// Largest `max-packet-size`.
pub const MAX_CONTROL_PACKET: u16 = 2048;

/// Received control messages that wait for the end of the key exchange, or arrived at once; the protocol never
/// has more than a few.
pub const MAX_QUEUED_MESSAGES: usize = 16;

/// Events a caller has left undrained before further ones that are merely informative are dropped.
pub const MAX_EVENTS: usize = 1024;

/// Answers to first packets that wait to be sent; the caller drains after each packet.
pub const MAX_STATELESS_REPLIES: usize = 64;

/// Sessions that a listening peer of a point-to-point tunnel holds. One is the tunnel; the others are attempts of
/// anybody who shows an address, and the oldest of them gives way, so that a flood has to begin so many within a
/// handshake to keep the true peer out.
pub const MAX_PEER_SESSIONS: usize = 64;
