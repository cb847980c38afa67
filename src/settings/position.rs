//! Positions in the configuration: a source and a byte offset.

/// A source and the byte offset in it; no offset means the source as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) source: usize,
    pub(super) offset: Option<usize>,
}

impl Position {
    /// The main file as a whole.
    pub(super) const MAIN: Self = Self::whole(0);

    pub(super) const fn whole(source: usize) -> Self {
        Self { source, offset: None }
    }

    pub(super) const fn at(source: usize, offset: usize) -> Self {
        Self { source, offset: Some(offset) }
    }
}
