//! The ack block of control packets.

use core::fmt;

use super::ids::MessageId;
use super::reader::Reader;
use crate::drops::DropReason;
use crate::limits::MAX_ACKS;

/// Up to [`MAX_ACKS`] acknowledged message ids. Their order has no meaning.
#[derive(Clone, Copy)]
pub struct AckList {
    ids: [MessageId; MAX_ACKS],
    len: u8,
}

impl AckList {
    /// No acks.
    pub const EMPTY: Self = Self { ids: [MessageId(0); MAX_ACKS], len: 0 };

    /// Appends an id; `false` if the list is full.
    pub fn push(&mut self, id: MessageId) -> bool {
        let Some(slot) = self.ids.get_mut(usize::from(self.len)) else { return false };
        *slot = id;
        self.len += 1;
        true
    }

    /// The ids.
    pub fn as_slice(&self) -> &[MessageId] {
        &self.ids[..usize::from(self.len)]
    }

    /// How many ids there are.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `id` is acknowledged.
    pub fn contains(&self, id: MessageId) -> bool {
        self.as_slice().contains(&id)
    }

    /// Reads count and ids.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, DropReason> {
        let count = reader.u8()?;
        if usize::from(count) > MAX_ACKS {
            return Err(DropReason::TooManyAcks);
        }
        let mut list = Self { len: count, ..Self::EMPTY };
        for slot in &mut list.ids[..usize::from(count)] {
            *slot = MessageId(reader.u32()?);
        }
        Ok(list)
    }

    /// Writes count and ids.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.len);
        for id in self.as_slice() {
            out.extend_from_slice(&id.0.to_be_bytes());
        }
    }
}

impl Default for AckList {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for AckList {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for AckList {}

impl fmt::Debug for AckList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice().iter().map(|id| id.0)).finish()
    }
}

/// Takes the first [`MAX_ACKS`] ids.
impl FromIterator<MessageId> for AckList {
    fn from_iter<I: IntoIterator<Item = MessageId>>(ids: I) -> Self {
        let mut list = Self::EMPTY;
        for id in ids.into_iter().take(MAX_ACKS) {
            list.push(id);
        }
        list
    }
}
