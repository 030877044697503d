//! Feeds the data channel's bodies with random bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{data_packet, replay_vs_model, seal_open};

proptest! {
    #[test]
    fn datagrams(bytes in vec(any::<u8>(), 0..400)) {
        data_packet::run(&bytes);
    }

    #[test]
    fn windows(bytes in vec(any::<u8>(), 0..4000)) {
        replay_vs_model::run(&bytes);
    }

    #[test]
    fn deliveries(bytes in vec(any::<u8>(), 0..600)) {
        seal_open::run(&bytes);
    }
}
