//! TCP without blocking: connect, accept, read bytes, write length-prefixed frames.
//!
//! ```
//! use std::net::TcpListener;
//! use oxivpn_net::tcp::{Progress, TcpOptions, start_connect};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut connecting = start_connect(listener.local_addr()?, &TcpOptions::default())?;
//! let mut link = loop {
//!     // Poll the descriptor for writability, with a deadline of your own, before each try.
//!     match connecting.finish()? {
//!         Progress::Connected(link) => break link,
//!         Progress::Pending(still) => connecting = still,
//!     }
//! };
//! link.write_frame(b"first")?;
//! link.write_frame(b"second")?;
//! link.flush()?; // one system call: 00 05 first 00 06 second
//! assert_eq!(link.queued(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connect;
mod link;
mod listen;
#[cfg(test)]
mod tests;

pub use connect::{Connecting, Progress, TcpOptions, start_connect};
pub use link::{Flush, FrameError, TcpLink};
pub use listen::{ListenOptions, Listener};
