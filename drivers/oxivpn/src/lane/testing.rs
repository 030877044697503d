//! What tests of several modules need.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

/// The next packet that was written to the other end of `device`.
pub(crate) fn written(device: &UnixDatagram) -> Vec<u8> {
    let mut buf = vec![0; 2048];
    loop {
        match device.recv(&mut buf) {
            // A test in another thread has sent this process a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => {
                buf.truncate(received.unwrap());
                return buf;
            }
        }
    }
}
