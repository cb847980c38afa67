//! Reads of value sources: requested from [`Tokens`](super::Tokens), executed as tasks.

use crate::file::FileStamp;
use crate::scheduler::TokenId;
use crate::settings::Source;
use crate::token_source::{Found, SourceError, SourceErrorKind, read};

/// A request to read a token's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadRequest {
    pub(crate) id: TokenId,
    /// The token's epoch when the read was requested.
    pub(crate) epoch: u8,
    pub(crate) source: Source,
}

/// The result of reading a token's source.
#[derive(Debug)]
pub(crate) struct SourceRead {
    pub(crate) request: ReadRequest,
    /// The file's stamp before it was read; `None` if it did not exist, or is no file.
    pub(crate) stamp: Option<FileStamp>,
    pub(crate) result: Result<Found, SourceError>,
}

impl SourceRead {
    /// The disk of the source did not respond in time.
    pub(crate) fn timed_out(request: ReadRequest) -> Self {
        let result = Err(SourceError::timed_out(&request.source));
        Self { request, stamp: None, result }
    }
}

impl ReadRequest {
    /// Reads the source. Blocks.
    pub(crate) fn read(self) -> SourceRead {
        let stamp = match &self.source {
            Source::File(path) => FileStamp::of(path),
            Source::Credential(_) | Source::Env(_) => None,
        };
        let result = read_source(&self.source);
        SourceRead { request: self, stamp, result }
    }
}

/// Reads a source. Blocks.
pub(crate) fn read_source(source: &Source) -> Result<Found, SourceError> {
    read(source, &|name| std::env::var_os(name))
}

/// Whether the source may be in the middle of being written: a program that writes a file in
/// place empties it first.
pub(crate) fn may_be_half_written(result: &Result<Found, SourceError>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| matches!(error.kind, SourceErrorKind::Empty | SourceErrorKind::Missing))
}
