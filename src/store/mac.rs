//! Message authentication codes: eight bytes that detect changed or unrelated rows.
//!
//! A MAC also covers what the row does not contain, such as the token's value and the server's URL.
//! Rows for an older value or another server do not match, nor do rows that a disk has corrupted.

use std::hash::Hasher as _;

use aws_lc_rs::digest::{Context, SHA256};
use siphasher::sip::SipHasher24;

/// Part of every MAC of one database, so that MACs of different databases cannot be compared.
#[derive(Clone, Copy)]
pub(super) struct Salt(pub(super) [u8; 16]);

impl Salt {
    /// The MAC of `parts` in this order. Boundaries between parts matter.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> i64 {
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let digest = context.finish();
        digest.as_ref().iter().take(8).fold(0, |tag, byte| (tag << 8) | i64::from(*byte))
    }

    /// A MAC for the result of every check: SipHash-2-4 with the salt as its key, in a third of the
    /// time of SHA-256. Boundaries between parts matter.
    pub(super) fn fast_mac(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for part in parts {
            hasher.write(part);
            hasher.write_u64(part.len() as u64);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_depends_on_the_salt_and_on_part_boundaries() {
        let salt = Salt([1; 16]);
        let tag = salt.mac(&[b"ab", b"c"]);
        assert_eq!(tag, salt.mac(&[b"ab", b"c"]));
        assert_ne!(tag, salt.mac(&[b"a", b"bc"]));
        assert_ne!(tag, Salt([2; 16]).mac(&[b"ab", b"c"]));
    }

    #[test]
    fn fast_mac_depends_on_the_salt_and_on_part_boundaries() {
        let salt = Salt([1; 16]);
        let tag = salt.fast_mac(&[b"ab", b"c"]);
        assert_eq!(tag, salt.fast_mac(&[b"ab", b"c"]));
        assert_ne!(tag, salt.fast_mac(&[b"a", b"bc"]));
        assert_ne!(tag, Salt([2; 16]).fast_mac(&[b"ab", b"c"]));
    }
}
