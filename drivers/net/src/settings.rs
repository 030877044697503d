//! Socket options that UDP and TCP have in common.

use socket2::Socket;

use crate::error::{BindError, Step};

pub(crate) struct Settings<'a> {
    pub(crate) mark: Option<u32>,
    pub(crate) device: Option<&'a str>,
    pub(crate) rcvbuf: Option<usize>,
    pub(crate) sndbuf: Option<usize>,
}

impl Settings<'_> {
    pub(crate) fn apply(&self, socket: &Socket) -> Result<(), BindError> {
        if let Some(mark) = self.mark {
            socket.set_mark(mark).map_err(BindError::at(Step::Option("SO_MARK", mark.to_string())))?;
        }
        if let Some(device) = self.device {
            let step = Step::Option("SO_BINDTODEVICE", device.to_owned());
            socket.bind_device(Some(device.as_bytes())).map_err(BindError::at(step))?;
        }
        if let Some(bytes) = self.rcvbuf {
            let step = Step::Option("SO_RCVBUF", bytes.to_string());
            socket.set_recv_buffer_size(bytes).map_err(BindError::at(step))?;
        }
        if let Some(bytes) = self.sndbuf {
            let step = Step::Option("SO_SNDBUF", bytes.to_string());
            socket.set_send_buffer_size(bytes).map_err(BindError::at(step))?;
        }
        Ok(())
    }
}
