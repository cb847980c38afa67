//! Reads the body of a response: all of it, or line by line.

use std::mem;
use std::time::Duration;

use reqwest::Response;
use tokio::time::timeout;

use super::access::REQUEST_TIMEOUT;
use super::explain::{hangs, no_response, sentence, too_long};
use crate::cluster::replica::Reason;

/// Maximum size of a response that contains many keys, and of a line of a watch, in bytes: 2,000 of
/// the largest records take half of it.
pub(super) const MAX_LONG_BYTES: usize = 64 * 1024 * 1024;

/// Time for a whole response that may be long. Its parts must come within [`REQUEST_TIMEOUT`].
const LONG_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a response; of a watch, lines that come as they are sent.
pub(super) struct Lines {
    response: Response,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that contain no line end.
    searched: usize,
}

/// Why there is no further line.
#[derive(Debug)]
pub(super) enum LineError {
    /// Nor would there be on another connection.
    TooLong,
    /// The connection has ended: why.
    Ended(String),
}

impl Lines {
    /// The unread body of this response.
    pub(super) const fn of(response: Response) -> Self {
        Self { response, buffer: Vec::new(), searched: 0 }
    }

    /// The next line, without its end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, LineError> {
        loop {
            let unsearched = &self.buffer[self.searched..];
            if let Some(at) = memchr::memchr(b'\n', unsearched) {
                let rest = self.buffer.split_off(self.searched + at + 1);
                self.searched = 0;
                let mut line = mem::replace(&mut self.buffer, rest);
                line.pop();
                // The gateway ends a stream with an empty line.
                if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    return Ok(line);
                }
                continue;
            }
            self.searched = self.buffer.len();
            match self.response.chunk().await {
                Ok(Some(chunk)) if self.buffer.len() + chunk.len() <= MAX_LONG_BYTES => {
                    self.buffer.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => return Err(LineError::TooLong),
                Ok(None) => return Err(LineError::Ended("the stream has ended".to_owned())),
                Err(error) => return Err(LineError::Ended(sentence(&error))),
            }
        }
    }

    /// Everything to the end, at most `max_bytes`. Each part must come within the time for a request.
    pub(super) async fn rest(&mut self, max_bytes: usize) -> Result<Vec<u8>, Reason> {
        let read = async {
            loop {
                let chunk = timeout(REQUEST_TIMEOUT, self.response.chunk()).await;
                let chunk = chunk.map_err(|_| hangs(REQUEST_TIMEOUT))?;
                let chunk = chunk.map_err(|error| Reason::silence(sentence(&error)))?;
                let Some(chunk) = chunk else {
                    return Ok(mem::take(&mut self.buffer));
                };
                if self.buffer.len() + chunk.len() > max_bytes {
                    return Err(too_long(max_bytes).into());
                }
                self.buffer.extend_from_slice(&chunk);
            }
        };
        let body = timeout(LONG_TIMEOUT, read).await;
        body.unwrap_or_else(|_| Err(no_response(LONG_TIMEOUT)))
    }
}
