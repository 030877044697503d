//! Randomness of the system; the only file that reads it.

use std::io;

/// A fresh seed for a [`Node`](oxivpn_proto::Node) or for shuffling.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(seed)
}

/// Fills `bytes`, as for a key that is made.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        io::Error::other(format!(
            "the system gives no randomness ({error}); nothing can be kept secret without it"
        ))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        assert_ne!(super::seed().unwrap(), super::seed().unwrap());
    }
}
