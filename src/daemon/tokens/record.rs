//! What is known of one token: sixteen bytes for most, and more for those that there is more
//! to tell of.

use super::config_table::ConfigId;
use crate::arena::Handle;
use crate::lifecycle::Slot;
use crate::store::Stored;

/// One token.
#[derive(Debug)]
pub(super) struct TokenRecord {
    pub(super) name: Handle,
    /// The only value, or the first of two; there is no second one without it.
    pub(super) value: Option<Handle>,
    /// The line of its inventory that it stands on; 0 for none.
    pub(super) line: u32,
    pub(super) terms: ConfigId,
    /// Counts what makes an older look at the source worthless. It comes round after 256 of
    /// them, and a look is over long before.
    pub(super) epoch: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Option<TokenRecord>>() == 16, "the reason of this module");

/// What the source held when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceMatch {
    /// Nothing that could be used, or nothing is known.
    Nothing = 0,
    /// The first value.
    First = 1,
    /// The second value.
    Second = 2,
    /// Another one.
    Other = 3,
}

const IN_SOURCE: u8 = 0b11;
const FIRST_IN_B: u8 = 1 << 2;
const LOOK_AGAIN: u8 = 1 << 3;
const WARNED: u8 = 1 << 4;
const HAS_MORE: u8 = 1 << 5;

impl TokenRecord {
    pub(super) fn new(name: Handle, terms: ConfigId, line: u32) -> Self {
        Self { name, value: None, line, terms, epoch: 0, flags: 0 }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sets a flag, and tells what it was.
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

    /// Where the lifecycle has the first value.
    pub(super) fn first_slot(&self) -> Slot {
        if self.has(FIRST_IN_B) { Slot::B } else { Slot::A }
    }

    pub(super) fn set_first_slot(&mut self, slot: Slot) {
        self.set(FIRST_IN_B, slot == Slot::B);
    }

    /// The source is to be looked at again once the re-auth under way has ended.
    pub(super) fn set_look_again(&mut self, on: bool) -> bool {
        self.set(LOOK_AGAIN, on)
    }

    /// It was said that the source is open to others.
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

/// What few tokens have.
#[derive(Debug, Default)]
pub(super) struct ColdFields {
    /// The second value: a newcomer, or what the first one took the place of.
    pub(super) second: Option<Handle>,
    /// What the source held, where that is neither value.
    pub(super) in_source: Option<Handle>,
    /// What an earlier run kept in place of the source's value, until the source is read.
    pub(super) recalled: Option<Box<Stored>>,
    /// What the server said when the value died, for the hook.
    pub(super) last_words: Option<Box<DeathReason>>,
    /// Re-auth attempts that counted when this was last looked at.
    pub(super) counted: u32,
}

impl ColdFields {
    pub(super) fn is_nothing(&self) -> bool {
        let Self { second, in_source, recalled, last_words, counted } = self;
        second.is_none()
            && in_source.is_none()
            && recalled.is_none()
            && last_words.is_none()
            && *counted == 0
    }
}

/// What a server said of a dead value.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeathReason {
    pub(crate) status: Option<u16>,
    pub(crate) detail: Option<Box<str>>,
}
