//! TUN devices of Linux, through `/dev/net/tun`.

mod device;
mod queues;
#[expect(unsafe_code, reason = "ioctl and fcntl on descriptors that are known to be open")]
mod sys;
mod transfer;

pub use device::Device;
