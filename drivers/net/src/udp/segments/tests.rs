//! The policy against a kernel that is made of a closure.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::*;

const TO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// A kernel that refuses batches as `refuse` says, and remembers what it took.
struct Kernel<F> {
    /// For each call the datagrams in it and whether it was a batch.
    calls: RefCell<Vec<(Vec<usize>, bool)>>,
    sent: RefCell<Vec<u8>>,
    refuse: F,
    mtu: io::Result<usize>,
}

impl<F: Fn(&[u8], Option<u16>) -> Option<i32>> Kernel<F> {
    fn new(refuse: F) -> Self {
        Self { calls: RefCell::default(), sent: RefCell::default(), refuse, mtu: Ok(1_472) }
    }

    fn run(&self, segments: &Segments, bytes: &[u8], segment: usize) -> io::Result<usize> {
        self.run_to(TO, segments, bytes, segment)
    }

    fn run_to(&self, to: IpAddr, segments: &Segments, bytes: &[u8], segment: usize) -> io::Result<usize> {
        let send = |bytes: &[u8], batch: Option<u16>| {
            let size = batch.map_or(bytes.len(), usize::from);
            self.calls.borrow_mut().push((bytes.chunks(size).map(<[u8]>::len).collect(), batch.is_some()));
            if let Some(errno) = (self.refuse)(bytes, batch) {
                return Err(io::Error::from_raw_os_error(errno));
            }
            self.sent.borrow_mut().extend(bytes);
            Ok(())
        };
        let mtu = || match &self.mtu {
            Ok(mtu) => Ok(*mtu),
            Err(error) => Err(error.kind().into()),
        };
        segments.run(to, bytes, segment, send, mtu)
    }

    /// Datagrams per call since the last question; a batch is positive, a single one 0.
    fn shape(&self) -> Vec<usize> {
        let calls = self.calls.take();
        calls.iter().map(|(datagrams, batch)| if *batch { datagrams.len() } else { 0 }).collect()
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) >> 3) as u8).collect()
}

#[test]
fn runs_are_cut_evenly_within_the_limits() {
    for (len, segment, shape) in [
        (1_400, 1_400, vec![0]),
        (2_800, 1_400, vec![2]),
        (2_801, 1_400, vec![3]),
        (44 * 1_424, 1_424, vec![44]),
        (45 * 1_424, 1_424, vec![23, 22]),
        (46 * 1_424 + 1, 1_424, vec![24, 23]),
        (100 * 1_424, 1_424, vec![34, 33, 33]),
        (64 * 100, 100, vec![64]),
        (65 * 100, 100, vec![33, 32]),
        (64_000, 32_000, vec![2]),
        (64_002, 32_001, vec![0, 0]),
        (65_507, 65_507, vec![0]),
        (10, 0, vec![0]),
        (10, 11, vec![0]),
        (3, 1, vec![3]),
        (0, 5, vec![]),
    ] {
        let kernel = Kernel::new(|_, _| None);
        let run = bytes(len);
        assert_eq!(kernel.run(&Segments::new(Ok(())), &run, segment).unwrap(), len);
        assert_eq!(*kernel.sent.borrow(), run);
        for (datagrams, batch) in &*kernel.calls.borrow() {
            let sum: usize = datagrams.iter().sum();
            assert!(!batch || datagrams.len() <= MAX_SEGMENTS && sum <= MAX_BYTES, "{datagrams:?}");
        }
        assert_eq!(kernel.shape(), shape, "{len} bytes, segment {segment}");
    }
}

#[test]
fn without_offload_datagrams_go_singly_and_nothing_is_told() {
    let segments = Segments::new(Err(0));
    let kernel = Kernel::new(|_, _| None);
    assert_eq!(kernel.run(&segments, &bytes(25), 10).unwrap(), 25);
    assert_eq!(kernel.shape(), [0, 0, 0]);
    assert_eq!(segments.take_notice(), None);
}

#[test]
fn a_kernel_without_segmentation_is_told_of_once() {
    let segments = Segments::new(Err(libc::ENOPROTOOPT));
    let kernel = Kernel::new(|_, _| None);
    assert_eq!(kernel.run(&segments, &bytes(25), 10).unwrap(), 25);
    assert_eq!(kernel.shape(), [0, 0, 0]);
    assert_eq!(segments.take_notice(), Some(Notice::NoSegmentation { errno: libc::ENOPROTOOPT }));
    assert_eq!(segments.take_notice(), None);
}

#[test]
fn what_will_not_get_better_ends_batches_and_loses_nothing() {
    for errno in [libc::EINVAL, libc::EOPNOTSUPP] {
        let segments = Segments::new(Ok(()));
        // The device behind the second batch is the one that refuses.
        let kernel = Kernel::new(|bytes, batch| (batch.is_some() && bytes.len() == 60_000).then_some(errno));
        let run = bytes(60_000 + 5);
        assert_eq!(kernel.run(&segments, &run[..10], 5).unwrap(), 10);
        assert_eq!(segments.take_notice(), None);
        assert_eq!(kernel.run(&segments, &run[10..], 1_000).unwrap(), run.len() - 10);
        assert_eq!(*kernel.sent.borrow(), run);
        assert_eq!(kernel.shape(), [2, 60]);
        assert_eq!(segments.take_notice(), None, "59,995 bytes pass");
        assert_eq!(kernel.run(&segments, &run[..60_000], 1_000).unwrap(), 60_000);
        assert_eq!(kernel.shape(), [&[60][..], &[0; 60]].concat());
        let error = io::Error::from_raw_os_error(errno);
        let notice = segments.take_notice().unwrap();
        assert_eq!(notice, Notice::NoSegmentation { errno });
        assert!(notice.to_string().contains(&error.to_string()), "{notice}");
        assert_eq!(kernel.run(&segments, &run[..10], 5).unwrap(), 10);
        assert_eq!(kernel.shape(), [0, 0]);
        assert_eq!(segments.take_notice(), None);
        assert!(segments.take_complaint().is_none());
    }
}

#[test]
fn an_interface_without_checksums_ends_batches_to_what_is_behind_it() {
    let segments = Segments::new(Ok(()));
    let mends = RefCell::new(false);
    let kernel = Kernel::new(|_, batch| (batch.is_some() && !*mends.borrow()).then_some(libc::EIO));
    let other = Kernel::new(|_, _| None);
    let there = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    let run = bytes(30);
    assert_eq!(kernel.run(&segments, &run, 10).unwrap(), 30);
    assert_eq!(kernel.shape(), [3, 0, 0, 0]);
    let notice = segments.take_notice().unwrap();
    assert_eq!(notice, Notice::SomeWithoutSegmentation { errno: libc::EIO });
    assert!(notice.to_string().contains("some destinations"), "{notice}");
    // Of any size; and other destinations have batches.
    for segment in [3, 10, 29] {
        assert_eq!(kernel.run(&segments, &run, segment).unwrap(), 30);
        assert!(kernel.shape().iter().all(|&datagrams| datagrams == 0), "{segment}");
        assert_eq!(other.run_to(there, &segments, &run, segment).unwrap(), 30);
        assert_eq!(other.shape().len(), 1, "{segment}");
    }
    // Tried again now and then, and not told again.
    let tries = |runs: u16| {
        let run = |_| kernel.run(&segments, &run, 10).map(|taken| (taken, kernel.shape() != [0; 3])).unwrap();
        (0..runs).map(run).inspect(|(taken, _)| assert_eq!(*taken, 30)).filter(|(_, tried)| *tried).count()
    };
    assert_eq!(tries(3 * RETRY), 3);
    assert_eq!(segments.take_notice(), None);
    *mends.borrow_mut() = true;
    assert!(tries(2 * RETRY) > usize::from(RETRY));
}

#[test]
fn a_size_above_the_mtu_is_remembered_for_its_destination_and_forgotten() {
    for errno in [libc::EMSGSIZE, libc::EINVAL] {
        let segments = Segments::new(Ok(()));
        let kernel = Kernel::new(|_, batch| batch.filter(|segment| *segment > 1_472).map(|_| errno));
        let run = bytes(4 * 1_500);
        assert_eq!(kernel.run(&segments, &run, 1_500).unwrap(), run.len());
        assert_eq!(kernel.shape(), [4, 0, 0, 0, 0]);
        assert_eq!(*kernel.sent.borrow(), run);
        // Smaller ones, and other destinations, are not concerned.
        kernel.run(&segments, &run, 1_499).unwrap();
        assert_eq!(kernel.shape(), [5, 0, 0, 0, 0, 0], "1,499 is above the MTU as well");
        kernel.run(&segments, &run, 1_400).unwrap();
        assert_eq!(kernel.shape(), [5]);
        let other = "198.51.100.7".parse().unwrap();
        assert_ne!(place(other).0, place(TO).0);
        Kernel::new(|_, _| None).run_to(other, &segments, &run, 1_500).unwrap();
        // The path of this kernel is wider, but nobody tries until the time has come.
        let wider = Kernel::new(|_, _| None);
        let mut singly = 0;
        while wider.run(&segments, &run, 1_500).is_ok() && wider.shape() != [4] {
            singly += 1;
            assert!(singly <= RETRY, "the size is never tried again");
        }
        assert!(singly + 1 >= RETRY, "tried again after {singly} runs");
        wider.run(&segments, &run, 1_500).unwrap();
        assert_eq!(wider.shape(), [4]);
        assert_eq!(segments.take_notice(), None);
    }
}

#[test]
fn an_address_that_is_not_valid_says_nothing_about_batches() {
    let segments = Segments::new(Ok(()));
    let mut kernel = Kernel::new(|_, _| Some(libc::EINVAL));
    kernel.mtu = Err(io::ErrorKind::AddrNotAvailable.into());
    assert_eq!(kernel.run(&segments, &bytes(30), 10).unwrap(), 30);
    assert_eq!(kernel.shape(), [3, 0, 0, 0]);
    assert_eq!(segments.take_complaint().unwrap().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(segments.take_notice(), None);
    let well = Kernel::new(|_, _| None);
    well.run(&segments, &bytes(30), 10).unwrap();
    assert_eq!(well.shape(), [3]);
}

#[test]
fn one_refused_datagram_loses_nothing_else() {
    let run = bytes(50);
    let poor = run[20..30].to_vec();
    for batches in [Ok(()), Err(0)] {
        let segments = Segments::new(batches);
        // A packet filter that dislikes the third datagram, and for that every batch with it.
        let kernel = Kernel::new(|bytes, _| bytes.windows(10).any(|w| w == poor).then_some(libc::EPERM));
        assert_eq!(kernel.run(&segments, &run, 10).unwrap(), 50);
        assert_eq!(*kernel.sent.borrow(), [&run[..20], &run[30..]].concat());
        assert_eq!(segments.take_complaint().unwrap().raw_os_error(), Some(libc::EPERM));
        assert!(segments.take_complaint().is_none());
        assert_eq!(segments.take_notice(), None);
    }
}

#[test]
fn a_full_socket_takes_whole_datagrams_from_the_front() {
    for batches in [Ok(()), Err(0)] {
        for room in 0..12 {
            let segments = Segments::new(batches);
            let left = RefCell::new(room);
            let kernel = Kernel::new(|bytes, _| {
                let mut left = left.borrow_mut();
                let fits = bytes.len() <= *left * 10_000;
                *left -= if fits { bytes.len().div_ceil(10_000) } else { 0 };
                (!fits).then_some(libc::EAGAIN)
            });
            let run = bytes(105_000);
            match kernel.run(&segments, &run, 10_000) {
                Ok(taken) => {
                    assert!(taken > 0 && (taken % 10_000 == 0 || taken == run.len()), "{taken}");
                    assert_eq!(*kernel.sent.borrow(), run[..taken]);
                    assert!(room < 11 || taken == run.len(), "{taken}");
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    assert!(kernel.sent.borrow().is_empty());
                }
            }
            assert!(segments.take_complaint().is_none());
        }
    }
}

#[test]
fn a_socket_that_fills_up_while_a_refused_batch_goes_singly_keeps_the_count() {
    let segments = Segments::new(Ok(()));
    let answers = RefCell::new(VecDeque::from([Some(libc::EIO), None, None, Some(libc::EAGAIN)]));
    let kernel = Kernel::new(|_, _| answers.borrow_mut().pop_front().flatten());
    let run = bytes(50);
    assert_eq!(kernel.run(&segments, &run, 10).unwrap(), 20);
    assert_eq!(kernel.run(&segments, &run[20..], 10).unwrap(), 30);
    assert_eq!(*kernel.sent.borrow(), run);
}

#[test]
fn memory_that_a_batch_lacks_is_no_reason_to_stop_batches() {
    let segments = Segments::new(Ok(()));
    let kernel = Kernel::new(|bytes, _| (bytes.len() > 20_000).then_some(libc::ENOBUFS));
    let run = bytes(50_000);
    assert_eq!(kernel.run(&segments, &run, 10_000).unwrap(), 50_000);
    assert_eq!(kernel.shape(), [5, 0, 0, 0, 0, 0]);
    assert_eq!(kernel.run(&segments, &run[..20_000], 10_000).unwrap(), 20_000);
    assert_eq!(kernel.shape(), [2]);
    assert_eq!(*kernel.sent.borrow(), [&run[..], &run[..20_000]].concat());
}

#[test]
fn a_dead_socket_says_so_when_nothing_was_taken() {
    let segments = Segments::new(Ok(()));
    let kernel = Kernel::new(|_, _| Some(libc::EBADF));
    assert_eq!(kernel.run(&segments, &bytes(30), 10).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(kernel.shape(), [3, 0]);
    let answers =
        RefCell::new(VecDeque::from([None, Some(libc::EINTR), Some(libc::EBADF), Some(libc::EBADF)]));
    let kernel = Kernel::new(|_, _| answers.borrow_mut().pop_front().flatten());
    assert_eq!(kernel.run(&segments, &bytes(90_000), 10_000).unwrap(), 50_000);
}

#[test]
fn places_survive_the_packing() {
    for place in [
        Place::default(),
        Place { tag: u32::MAX, refused: 1, left: 0 },
        Place { tag: 1, refused: u16::MAX, left: RETRY },
    ] {
        assert_eq!(Place::unpack(place.pack()), place);
    }
    let spread: std::collections::BTreeSet<usize> =
        (0..=255u8).map(|n| place(IpAddr::from([10, 0, 0, n])).0).collect();
    assert!(spread.len() > 128, "{} places for 256 neighbours", spread.len());
}
