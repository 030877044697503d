use proptest::prelude::*;

use super::{play, run};

/// Three clients with data, renegotiations from both sides, questions, and one that starts anew.
fn good_life(flags: u16, limits: u8, timing: u8, seed: u8) -> Vec<u8> {
    let [high, low] = flags.to_be_bytes();
    let mut script = vec![high, low, limits, timing, seed];
    script.extend([11, 0, 0, 11, 1, 1, 1, 2, 19, 0, 0, 19, 1, 0, 0, 50, 13, 0, 0, 20, 0, 1, 1]);
    script.extend([
        12, 2, 0, 17, 2, 0, 64, 17, 2, 0, 1, 1, 1, 18, 2, 0, 0, 50, 19, 2, 0, 16, 0, 1, 19, 0, 0, 0, 50,
    ]);
    script.extend([
        11, 0, 0, 1, 2, 23, 0, 2, 2, 0, 24, 0, 4, 1, 24, 2, 24, 1, 61, 21, 0, 6, 1, 7, 14, 1, 0, 1, 9,
    ]);
    script
}

#[test]
fn a_whole_life() {
    for kind in 0..7 {
        let lives = [
            (kind, 3, 0, 0),
            (kind | 0x1c00, 0x53, 0x0a, 0),
            (kind | 0x18, 3, 5, 16),
            (kind | 0x1010, 3, 5, 16),
        ];
        for (flags, limits, timing, seed) in lives {
            let heard = play(&good_life(flags, limits, timing, seed));
            for event in ["Incoming", "TlsReady", "Admit", "Pushed", "Established", "Rekeyed", "Closed"] {
                assert!(heard.contains(event), "{flags:x}: {heard:?}");
            }
            assert_eq!(heard.contains("Login"), flags & 0x800 != 0, "{flags:x}");
            assert!(flags & 8 != 0 || heard.contains("Floated"), "{flags:x}: {heard:?}");
        }
    }
}

#[test]
fn questions_that_are_answered_late() {
    for kind in 0..7_u16 {
        let mut script = (0x1c00 | kind).to_be_bytes().to_vec();
        script.extend([3, 0, 0, 32, 1, 11, 0, 0, 1, 1, 28, 0, 9, 1, b'x', 0, 0, 100, 1, 1, 27, 0, 8, 1, 1]);
        script.extend([
            29, 0, 9, 0, 3, 200, 1, b'y', 2, 0, 24, 0, 1, 9, 27, 0, 0, 13, 0, 0, 1, 9, 27, 0, 10, 0, 0, 9,
        ]);
        let heard = play(&script);
        assert!(
            ["Login", "Admit", "Established"].iter().all(|event| heard.contains(event)),
            "{kind}: {heard:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_scripts(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        run(&data);
    }

    #[test]
    fn random_scripts_after_a_good_start(
        flags in any::<u16>(),
        data in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let start = [&flags.to_be_bytes()[..], &[3, 0, 0, 11, 0, 0, 11, 1, 0, 1, 2]].concat();
        run(&[&start, &data[..]].concat());
    }
}
