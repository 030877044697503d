//! The link layer of a host: one packet in, packets out, no frames.

use std::collections::VecDeque;

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// What lies under the stack during one call into it.
pub(super) struct Wire<'a> {
    pub(super) mtu: usize,
    pub(super) packet: Option<&'a [u8]>,
    pub(super) sent: &'a mut VecDeque<Vec<u8>>,
}

pub(super) struct In<'a>(&'a [u8]);

pub(super) struct Out<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::Device for Wire<'_> {
    type RxToken<'b>
        = In<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Out<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(In<'_>, Out<'_>)> {
        self.packet.take().map(|packet| (In(packet), Out(self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl phy::RxToken for In<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut packet = vec![0; len];
        let result = fill(&mut packet);
        self.0.push_back(packet);
        result
    }
}
