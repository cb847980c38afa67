//! The record of one token: 16 bytes for most tokens, and cold fields beside it for the others.

use jiff::Timestamp;

use super::config_table::ConfigId;
use crate::arena::Handle;
use crate::lifecycle::Slot;
use crate::store::StoredValue;

/// One token.
#[derive(Debug)]
pub(super) struct TokenRecord {
    pub(super) name: Handle,
    /// The only value, or the first of two: there is no second value without it.
    pub(super) value: Option<Handle>,
    /// The token's line in its inventory; 0 for none.
    pub(super) line: u32,
    pub(super) config: ConfigId,
    /// Changes when reads of the source that began before are outdated. It wraps around after 256
    /// changes; a read has ended long before.
    pub(super) epoch: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Option<TokenRecord>>() == 16, "the reason of this module");

/// Which value the source held when it was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceMatch {
    /// No usable value, or it was not read.
    Nothing = 0,
    /// The first value.
    First = 1,
    /// The second value.
    Second = 2,
    /// A value that is neither.
    Other = 3,
}

const IN_SOURCE: u8 = 0b11;
const FIRST_IN_B: u8 = 1 << 2;
const READ_AGAIN: u8 = 1 << 3;
const WARNED: u8 = 1 << 4;
const HAS_MORE: u8 = 1 << 5;

impl TokenRecord {
    pub(super) fn new(name: Handle, config: ConfigId, line: u32) -> Self {
        Self { name, value: None, line, config, epoch: 0, flags: 0 }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sets a flag. Returns its value before.
    fn set(&mut self, flag: u8, on: bool) -> bool {
        let was = self.has(flag);
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
        was
    }

    pub(super) fn in_source(&self) -> SourceMatch {
        match self.flags & IN_SOURCE {
            0 => SourceMatch::Nothing,
            1 => SourceMatch::First,
            2 => SourceMatch::Second,
            _ => SourceMatch::Other,
        }
    }

    pub(super) fn set_in_source(&mut self, what: SourceMatch) {
        self.flags = self.flags & !IN_SOURCE | what as u8;
    }

    /// The slot of the first value.
    pub(super) fn first_slot(&self) -> Slot {
        if self.has(FIRST_IN_B) { Slot::B } else { Slot::A }
    }

    pub(super) fn set_first_slot(&mut self, slot: Slot) {
        self.set(FIRST_IN_B, slot == Slot::B);
    }

    /// Whether the source is to be read again once the current re-authentication has ended.
    pub(super) fn set_read_again(&mut self, on: bool) -> bool {
        self.set(READ_AGAIN, on)
    }

    /// Whether a warning about the source was logged.
    pub(super) fn set_warned(&mut self, on: bool) -> bool {
        self.set(WARNED, on)
    }

    pub(super) fn has_more(&self) -> bool {
        self.has(HAS_MORE)
    }

    pub(super) fn set_has_more(&mut self, on: bool) {
        self.set(HAS_MORE, on);
    }
}

/// Fields that few tokens have.
#[derive(Debug, Default)]
pub(super) struct ColdFields {
    /// The second value: a candidate, or the value before the current one.
    pub(super) second: Option<Handle>,
    /// What the source held, if that is neither value.
    pub(super) in_source: Option<Handle>,
    /// The persisted value that may replace the source's value, until the source is read.
    pub(super) restored: Option<Box<StoredValue>>,
    /// What the server said of a dead value, for the re-auth command.
    pub(super) death_reason: Option<Box<DeathReason>>,
    /// Re-auth attempts that had counted when they were last persisted.
    pub(super) counted: u32,
}

impl ColdFields {
    pub(super) fn is_nothing(&self) -> bool {
        let Self { second, in_source, restored, death_reason, counted } = self;
        second.is_none()
            && in_source.is_none()
            && restored.is_none()
            && death_reason.is_none()
            && *counted == 0
    }
}

/// What a server said of a dead value, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeathReason {
    pub(crate) at: Timestamp,
    pub(crate) status: Option<u16>,
    pub(crate) detail: Option<Box<str>>,
}
