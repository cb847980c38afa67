//! Tags: eight bytes that tell whether what is kept belongs together and is as it was written.
//!
//! A tag covers what the row itself does not hold as well, such as a token's value and the
//! server's address: what was kept for an older value or another server does not fit, nor does
//! what a disk has changed.

use std::hash::Hasher as _;

use aws_lc_rs::digest::{Context, SHA256};
use siphasher::sip::SipHasher24;

/// Goes into every tag of one store, so that tags of different stores cannot be compared.
#[derive(Clone, Copy)]
pub(super) struct Salt(pub(super) [u8; 16]);

impl Salt {
    /// The tag of `parts`, in this order. Each part's end counts.
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

    /// A tag for what is written with every check: SipHash-2-4 under the salt as its key, at a
    /// third of the time that SHA-256 takes. Each part's end counts.
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
    fn a_tag_depends_on_the_salt_and_on_where_each_part_ends() {
        let salt = Salt([1; 16]);
        let tag = salt.mac(&[b"ab", b"c"]);
        assert_eq!(tag, salt.mac(&[b"ab", b"c"]));
        assert_ne!(tag, salt.mac(&[b"a", b"bc"]));
        assert_ne!(tag, Salt([2; 16]).mac(&[b"ab", b"c"]));
    }

    #[test]
    fn a_quick_tag_does_so_too() {
        let salt = Salt([1; 16]);
        let tag = salt.fast_mac(&[b"ab", b"c"]);
        assert_eq!(tag, salt.fast_mac(&[b"ab", b"c"]));
        assert_ne!(tag, salt.fast_mac(&[b"a", b"bc"]));
        assert_ne!(tag, Salt([2; 16]).fast_mac(&[b"ab", b"c"]));
    }
}
