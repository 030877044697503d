use proptest::prelude::*;

use super::*;

#[test]
fn control_packet_seeds() {
    let seeds: [&[u8]; 9] = [
        &[],
        &[0x38, 0, 0, 0, 0, 0],
        &[0x40, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1],
        &[0x28, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0xff],
        &[0x20, 9, 0, 0, 0, 0],
        &[0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x48, 1, 2, 3, 4],
        &[0x30, 1],
        &[0xff; 40],
    ];
    seeds.into_iter().for_each(control_packet::run);
}

#[test]
fn stream_frames_seeds() {
    let mut long = vec![7, 1, 44];
    long.resize(3 + 300, 9);
    let seeds: [&[u8]; 7] = [
        &[],
        &[0, 0, 1, 5, 0, 2, 6, 7],
        &[255, 0, 3, 1, 2],
        &[1, 0, 0],
        &[1, 1, 45],
        &[2, 0, 1, 1, 0xff, 0xff, 0],
        &long,
    ];
    seeds.into_iter().for_each(stream_frames::run);
}

#[test]
fn wrap_open_seeds() {
    for mode in 0..20 {
        let reset = [mode, 0, 9, 0x38, 0, 0, 0, 0, 0];
        wrap_open::run(&reset);
        for len in 0..reset.len() {
            wrap_open::run(&reset[..len]);
        }
        let mut wkc = vec![mode, 1, 7, 0x50];
        wkc.resize(400, 3);
        wkc.extend([0x01, 0x22]);
        wrap_open::run(&wkc);
        wrap_open::run(&[&[mode, 0xff, 0xff], &[0x20; 3072][..]].concat());
    }
}

#[test]
fn doorman_seeds() {
    for protection in 0..64 {
        for rates in [0, 0x22, 0x2f] {
            let mut script = vec![protection, rates];
            // For each kind of path a reset, what follows, the same bent, a reset with garbage, a plain one; time.
            for path in 0..4 {
                script.extend([
                    2, path, 3, path, 4, path, 0, 9, 1, path, 3, 0x38, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1,
                ]);
                script.extend([0, path, 4, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 251, 0]);
                script.extend([3, path]);
            }
            doorman::run(&script);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_input(data in proptest::collection::vec(any::<u8>(), 0..700)) {
        control_packet::run(&data);
        stream_frames::run(&data);
        wrap_open::run(&data);
        doorman::run(&data);
    }
}
