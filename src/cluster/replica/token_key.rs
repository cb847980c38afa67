//! How a token is named in the cluster, and the hash that chooses its slot.

use std::sync::Arc;

/// Number of slots that token names hash into. Small enough for a digest of each in one record,
/// large enough that the slots of a few replicas differ in number by some percent only.
pub const SLOTS: usize = 1_024;

/// Hash of a token's server and name. Stable across versions and machines. Two tokens with one hash
/// would share their claim; with a million tokens that has a probability of 3 · 10⁻⁸.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash(pub u64);

/// A token in the cluster: `SERVER/NAME`, each part percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey(Arc<str>);

impl TokenKey {
    /// The key of a token, by the name of its server and its own.
    pub fn new(server: &str, name: &str) -> Self {
        let mut text = String::with_capacity(server.len() + name.len() + 1);
        encode(&mut text, server);
        text.push('/');
        encode(&mut text, name);
        Self(text.into())
    }

    /// A key as etcd has it, without its prefix; `None` unless it has two parts.
    pub fn parse(text: &str) -> Option<Self> {
        let (server, name) = text.split_once('/')?;
        (!server.is_empty() && !name.is_empty() && !name.contains('/')).then(|| Self(text.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its server, percent-encoded.
    pub fn server(&self) -> &str {
        self.0.split_once('/').map_or("", |(server, _)| server)
    }

    /// A server as [`TokenKey::server`] returns it.
    pub fn encode_server(name: &str) -> Arc<str> {
        let mut text = String::with_capacity(name.len());
        encode(&mut text, name);
        text.into()
    }

    /// The name of a server; `None` if it is not encoded as such.
    pub fn decode_server(server: &str) -> Option<String> {
        decode(server)
    }

    /// The names of its server and its own; `None` if another program has written the key.
    pub fn names(&self) -> Option<(String, String)> {
        let (server, name) = self.0.split_once('/')?;
        Some((decode(server)?, decode(name)?))
    }

    /// Its hash.
    pub fn hash(&self) -> TokenHash {
        TokenHash(hash(self.0.as_bytes()))
    }
}

impl TokenHash {
    /// The slot of the token.
    pub const fn slot(self) -> usize {
        // The highest bits are as good as any.
        (self.0 >> 54) as usize
    }

    /// What the token adds to the digest of its slot: bits that do not choose the slot.
    pub(super) fn digest(self) -> u32 {
        u32::try_from(self.0 & 0xffff_ffff).unwrap_or_default()
    }
}

/// Adds `part`, with every byte percent-encoded that could separate parts or is not printable.
fn encode(text: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_graphic() && byte != b'/' && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push('%');
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
    }
}

/// A part without its percent-encoding; `None` if it is not valid.
fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `SipHash-1-3` with a fixed key: stable, and the same on all replicas.
fn hash(bytes: &[u8]) -> u64 {
    hash_with(0x7020_636c_7573_7465, bytes)
}

/// Like [`hash`], with a second half of the key.
pub(super) fn hash_with(key: u64, bytes: &[u8]) -> u64 {
    siphasher::sip::SipHasher13::new_with_keys(0x746f_6b65_6e6b_6565, key).hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_key_contains_the_names_of_server_and_token() {
        for (server, name) in [("sarus", "quotes"), ("a/b", "100% ä\n"), ("%2F", "/")] {
            let key = TokenKey::new(server, name);
            assert_eq!(key.names(), Some((server.to_owned(), name.to_owned())));
            assert_eq!(TokenKey::parse(key.as_str()), Some(key));
        }
        for broken in ["a/%", "a/%2", "a/%zz", "a/%ff"] {
            assert_eq!(TokenKey::parse(broken).unwrap().names(), None, "{broken}");
        }
    }
}
