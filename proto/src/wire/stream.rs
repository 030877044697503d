//! Packets on a TCP stream: each after its length as `u16` (`openvpn: socket.c`, `stream_buf_added`).

use core::fmt;
use core::ops::Range;

/// Bytes of a frame's length field.
pub const FRAME_HEADER: usize = 2;

/// The length field for a packet of `len` bytes, or `None` if no frame can hold it.
pub fn frame_header(len: usize) -> Option<[u8; FRAME_HEADER]> {
    match u16::try_from(len) {
        Ok(0) | Err(_) => None,
        Ok(n) => Some(n.to_be_bytes()),
    }
}

/// Cuts frames out of bytes which the caller keeps.
///
/// The caller reads into one buffer of at least [`Deframer::buffer_len`] bytes, walks over
/// [`Deframer::frames`], and moves what is left behind [`Frames::consumed`] to the front.
#[derive(Clone, Copy, Debug)]
pub struct Deframer {
    limit: usize,
}

impl Deframer {
    /// Takes packets of up to `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// Smallest buffer in which every legal frame fits.
    pub const fn buffer_len(&self) -> usize {
        FRAME_HEADER + self.limit
    }

    /// Where the packet of the first frame lies in `bytes`; `None` if it isn't complete yet. The frame ends
    /// with its packet. An error is as early as it can be, from the length alone.
    pub fn first(&self, bytes: &[u8]) -> Result<Option<Range<usize>>, FramingError> {
        let Some(&header) = bytes.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(header));
        if len == 0 || len > self.limit {
            return Err(FramingError { len, limit: self.limit });
        }
        let end = FRAME_HEADER + len;
        Ok((bytes.len() >= end).then_some(FRAME_HEADER..end))
    }

    /// Walks over the packets of all complete frames, in place.
    pub fn frames<'b>(&self, bytes: &'b mut [u8]) -> Frames<'b> {
        Frames { deframer: *self, rest: bytes, consumed: 0 }
    }
}

/// Iterator over the packets in a buffer. Ends before an incomplete frame, and after an error.
#[derive(Debug)]
pub struct Frames<'b> {
    deframer: Deframer,
    rest: &'b mut [u8],
    consumed: usize,
}

impl Frames<'_> {
    /// Bytes of the frames that were returned so far, counted from the start of the buffer.
    pub const fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'b> Iterator for Frames<'b> {
    type Item = Result<&'b mut [u8], FramingError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.deframer.first(self.rest) {
            Ok(Some(range)) => {
                let (frame, rest) = core::mem::take(&mut self.rest).split_at_mut(range.end);
                self.rest = rest;
                self.consumed += range.end;
                Some(Ok(&mut frame[range.start..]))
            }
            Ok(None) => None,
            Err(e) => {
                self.rest = &mut [];
                Some(Err(e))
            }
        }
    }
}

impl core::iter::FusedIterator for Frames<'_> {}

/// A length field that can't be: the stream is out of step, or the peer speaks something else. The
/// connection can't be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramingError {
    /// What the field said.
    pub len: usize,
    /// The largest packet that is taken.
    pub limit: usize,
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet length {} on the TCP stream is not within 1 to {}", self.len, self.limit)?;
        f.write_str("; the peer is no OpenVPN, or the link-mtu of both sides differs too much")
    }
}

impl core::error::Error for FramingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_frames_come_in_place_and_the_rest_stays() {
        let mut bytes = vec![0, 2, 0xaa, 0xbb, 0, 1, 0xcc, 0, 3, 1, 2];
        let mut frames = Deframer::new(10).frames(&mut bytes);
        let first = frames.next().unwrap().unwrap();
        assert_eq!(first, [0xaa, 0xbb]);
        first[0] = 0;
        assert_eq!(frames.next().unwrap().unwrap(), [0xcc]);
        assert_eq!(frames.next(), None);
        assert_eq!(frames.next(), None);
        assert_eq!(frames.consumed(), 7);
        assert_eq!(bytes[2], 0);
    }

    #[test]
    fn lengths_out_of_range_are_fatal_as_soon_as_they_are_seen() {
        let deframer = Deframer::new(1600);
        assert_eq!(deframer.first(&[0, 0]), Err(FramingError { len: 0, limit: 1600 }));
        assert_eq!(deframer.first(&[6, 65]), Err(FramingError { len: 1601, limit: 1600 }));
        assert_eq!(deframer.first(&[6, 64]), Ok(None));
        assert_eq!(deframer.first(&[6]), Ok(None));
        let mut bytes = [0, 1, 9, 0, 0, 7];
        let mut frames = deframer.frames(&mut bytes);
        assert_eq!(frames.next().unwrap().unwrap(), [9]);
        assert!(frames.next().unwrap().is_err());
        assert_eq!(frames.next(), None);
        assert_eq!(frames.consumed(), 3);
    }

    #[test]
    fn header_only_for_what_fits() {
        assert_eq!(frame_header(0x1234), Some([0x12, 0x34]));
        assert_eq!(frame_header(65535), Some([0xff, 0xff]));
        assert_eq!(frame_header(0), None);
        assert_eq!(frame_header(65536), None);
    }
}
