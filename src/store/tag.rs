//! Tags: eight bytes that tell whether what is kept belongs together and is as it was written.
//!
//! A tag covers the token's value and the server's address, which the row itself does not hold:
//! a row for an older value or another server does not fit, nor does one that a disk has changed.

use aws_lc_rs::digest::{Context, SHA256};

/// Goes into every tag of one store, so that tags of different stores cannot be compared.
#[derive(Clone, Copy)]
pub(super) struct Salt(pub(super) [u8; 16]);

impl Salt {
    /// The tag of `parts`, in this order. Each part's end counts.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> i64 {
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let digest = context.finish();
        digest.as_ref().iter().take(8).fold(0, |tag, byte| (tag << 8) | i64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_depends_on_the_salt_and_on_where_each_part_ends() {
        let salt = Salt([1; 16]);
        let tag = salt.tag(&[b"ab", b"c"]);
        assert_eq!(tag, salt.tag(&[b"ab", b"c"]));
        assert_ne!(tag, salt.tag(&[b"a", b"bc"]));
        assert_ne!(tag, Salt([2; 16]).tag(&[b"ab", b"c"]));
    }
}
