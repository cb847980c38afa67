//! Reads lines from a stream with a buffer of fixed size.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// The longest line: sixteen of the longest tokens, or one with every character escaped.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Maximum size of an inventory in JSON lines, 1 GiB: ten million tokens. An endless device or
/// command is not read for ever.
pub const MAX_BYTES: u64 = 1 << 30;

/// Lines of a stream, numbered from 1.
pub(super) struct LineReader<R> {
    reader: R,
    /// Lines are borrowed from it, so it never contains more than one read.
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
    number: u32,
    taken: u64,
    at_end: bool,
}

/// A line without its line ending.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Text(&'a [u8]),
    /// Longer than [`MAX_LINE_BYTES`].
    TooLong,
}

impl<R: Read> LineReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Zeroizing::new(vec![0; MAX_LINE_BYTES]),
            start: 0,
            end: 0,
            number: 0,
            taken: 0,
            at_end: false,
        }
    }

    /// Bytes of the lines returned so far.
    pub(super) fn used(&self) -> u64 {
        self.taken - (self.end - self.start) as u64
    }

    /// Whether the stream is larger than [`MAX_BYTES`].
    pub(super) fn is_too_large(&self) -> bool {
        self.taken > MAX_BYTES
    }

    /// The next line and its number; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(u32, Line<'_>)>> {
        let (mut searched, mut too_long) = (self.start, false);
        let text = loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..self.end]) {
                let text = self.start..searched + at;
                self.start = text.end + 1;
                break text;
            }
            if self.at_end || self.is_too_large() {
                if self.start == self.end && !too_long {
                    return Ok(None);
                }
                let text = self.start..self.end;
                self.start = self.end;
                break text;
            }
            if self.end - self.start == self.buffer.len() {
                too_long = true;
                self.start = self.end;
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            searched = self.end;
            self.fill()?;
        };
        self.number = self.number.saturating_add(1);
        let line = if too_long { Line::TooLong } else { Line::Text(&self.buffer[text]) };
        Ok(Some((self.number, line)))
    }

    fn fill(&mut self) -> io::Result<()> {
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    self.taken += read as u64;
                    self.at_end = read == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns at most this many bytes per read.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }

    fn lines(content: &[u8], at_once: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = LineReader::new(Trickle(content, at_once));
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            all.push(match line {
                Line::Text(text) => Some(text.to_vec()),
                Line::TooLong => None,
            });
            assert_eq!(number as usize, all.len());
        }
        all
    }

    #[test]
    fn stream_is_split_into_lines_whatever_the_read_sizes() {
        let content = b"one\n\ntwo\r\nthree";
        let cut: Vec<_> =
            content.split(|byte| *byte == b'\n').map(|line| Some(line.to_vec())).collect();
        for at_once in [1, 2, 3, 5, 1000] {
            assert_eq!(lines(content, at_once), cut, "{at_once}");
        }
        assert_eq!(lines(b"", 5), []);
        assert_eq!(lines(b"\n", 5), [Some(Vec::new())]);
    }

    #[test]
    fn line_that_is_too_long_affects_no_other_line() {
        let fits = vec![b'x'; MAX_LINE_BYTES - 1];
        for (length, expected) in [
            (MAX_LINE_BYTES - 1, Some(&fits)),
            (MAX_LINE_BYTES + 1, None),
            (MAX_LINE_BYTES * 5, None),
        ] {
            let content = [b"one\n", &vec![b'x'; length][..], b"\ntwo\n"].concat();
            let cut = lines(&content, 10_000);
            assert_eq!(cut.len(), 3, "{length}");
            assert_eq!(cut[1].as_ref(), expected, "{length}");
            assert_eq!(cut[2], Some(b"two".to_vec()), "{length}");
        }
    }

    #[test]
    fn endless_stream_is_abandoned() {
        let mut lines = LineReader::new(io::repeat(b'x'));
        lines.taken = MAX_BYTES - 100;
        assert!(matches!(lines.next().unwrap(), Some((1, Line::Text(_)))));
        assert!(lines.is_too_large());
        assert_eq!(lines.next().unwrap(), None);
    }
}
