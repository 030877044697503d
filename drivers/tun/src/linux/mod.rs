//! TUN devices of Linux, through `/dev/net/tun`.

mod device;
#[expect(unsafe_code, reason = "ioctl and fcntl on descriptors that are known to be open")]
mod sys;

pub use device::Device;
