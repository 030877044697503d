//! Feeds the data channel's bodies with random bytes.

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn data_packet(bytes in vec(any::<u8>(), 0..400)) {
        super::data_packet::run(&bytes);
    }

    #[test]
    fn replay_vs_model(bytes in vec(any::<u8>(), 0..4000)) {
        super::replay_vs_model::run(&bytes);
    }

    #[test]
    fn seal_open(bytes in vec(any::<u8>(), 0..600)) {
        super::seal_open::run(&bytes);
    }
}
