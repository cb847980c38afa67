//! Visits all keys below a prefix in pages, in their order.
//!
//! etcd 3.4 counts all keys of a range for each page of it. So a range is cut down to keys that
//! begin like those of the page before, or the time for a million keys would grow with their square.

/// A range that contains more pages than this is cut down.
const MAX_PAGES: u64 = 8;

/// The place in a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walk {
    /// The first key of the next page.
    key: Vec<u8>,
    /// Length of the prefix of all keys.
    prefix: usize,
    /// The next page contains only keys that begin with this many bytes of `key`.
    depth: usize,
}

/// What a page contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visited<'a> {
    /// Its first and its last key; `None` if it was empty.
    pub(super) keys: Option<(&'a [u8], &'a [u8])>,
    /// Whether its range has more keys than the page.
    pub(super) more: bool,
    /// Number of keys of its range.
    pub(super) count: u64,
}

impl Walk {
    /// A walk over all keys that begin with `prefix`, which is not empty.
    pub(super) fn over(prefix: &str) -> Self {
        Self { key: prefix.into(), prefix: prefix.len(), depth: prefix.len() }
    }

    /// The first key of the next page, and the key behind its range.
    pub(super) fn range(&self) -> (&[u8], Vec<u8>) {
        (&self.key, successor(&self.key[..self.depth]))
    }

    /// Goes to the next page, of at most `limit` keys. Returns whether there is one.
    pub(super) fn advance(&mut self, page: Visited<'_>, limit: u64) -> bool {
        if let (true, Some((first, last))) = (page.more, page.keys) {
            if page.count > MAX_PAGES * limit {
                let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
                self.depth = self.depth.max(common);
            }
            self.key = last.to_vec();
            // The next key in the order.
            self.key.push(0);
            return true;
        }
        if self.depth <= self.prefix {
            return false;
        }
        self.key = successor(&self.key[..self.depth]);
        self.depth = self.key.len().saturating_sub(1).max(self.prefix);
        // Otherwise the range was the last one of all.
        self.key.len() > self.prefix
    }
}

/// The first key behind all that begin with `start`.
fn successor(start: &[u8]) -> Vec<u8> {
    let kept = start.iter().rposition(|byte| *byte < u8::MAX).map_or(0, |at| at + 1);
    let mut key = start[..kept].to_vec();
    if let Some(last) = key.last_mut() {
        *last += 1;
    }
    key
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PREFIX: &str = "/p/";

    /// Walks over `keys`. Returns the keys in the order of the visit, and the number of keys that
    /// etcd 3.4 counts.
    fn walk(keys: &BTreeSet<Vec<u8>>, limit: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut walk, mut visited, mut counted) = (Walk::over(PREFIX), Vec::new(), 0);
        loop {
            let (start, end) = walk.range();
            let range: Vec<_> = keys.range(start.to_vec()..end).cloned().collect();
            counted += range.len();
            let page = &range[..range.len().min(limit)];
            visited.extend_from_slice(page);
            let page = Visited {
                keys: page.first().map(Vec::as_slice).zip(page.last().map(Vec::as_slice)),
                more: range.len() > limit,
                count: range.len() as u64,
            };
            if !walk.advance(page, limit as u64) {
                return (visited, counted);
            }
        }
    }

    #[test]
    fn every_key_is_visited_once_and_in_order() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes: &[u8] = if seed % 2 == 0 { b"ab/" } else { b"\x00\xfe\xffa" };
            let keys: BTreeSet<_> = (0..random.usize(0..400))
                .map(|_| {
                    let tail = (0..random.usize(0..9)).map(|_| *random.choice(bytes).unwrap());
                    PREFIX.bytes().chain(tail.collect::<Vec<_>>()).collect::<Vec<u8>>()
                })
                .collect();
            for limit in [1, 2, 7, 100, 1_000] {
                let (visited, _) = walk(&keys, limit);
                assert!(visited.iter().eq(keys.iter()), "seed {seed}, {limit} in a page");
            }
        }
    }

    #[test]
    fn work_grows_with_the_number_of_keys_and_not_with_its_square() {
        let names = |format: fn(usize) -> String| (0..50_000).map(format).map(String::into_bytes);
        for keys in [
            names(|n| format!("/p/value/sarus/token-{n:07}")).collect::<BTreeSet<_>>(),
            names(|n| format!("/p/value/server-{}/{:x}", n % 7, n * 7_919)).collect(),
        ] {
            let (visited, counted) = walk(&keys, 20);
            assert_eq!(visited.len(), keys.len());
            // Without cutting down, it is 1,250 times their number.
            assert!(counted < 60 * keys.len(), "{counted}");
        }
    }
}
