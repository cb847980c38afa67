//! Seals token values with AES-256-GCM, so that etcd and its backups contain no secret in the clear.
//!
//! A sealed value is bound to its key in etcd: it cannot be opened below another one.
//!
//! Layout: version (1 byte), id of the key (8 bytes), nonce (12 bytes), ciphertext, tag (16 bytes).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::replica::KeyId;
use crate::secret::TokenValue;
use crate::settings::{Cluster, KeySource};
use crate::token_source::{Variables, read_parameter};

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + ID_BYTES + NONCE_LEN;

/// The keys of a replica: the configured `key`, and `old_key` if there is one.
pub struct Keys(Vec<(KeyId, LessSafeKey)>);

/// A value in the clear, with its refresh token. Prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain {
    /// The token value.
    pub value: TokenValue,
    /// The refresh token that belongs to it.
    pub refresh: Refresh,
}

/// What a replica knows of the refresh token of a token. Prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub enum Refresh {
    /// This one counts.
    Token(TokenValue),
    /// None counts: the last one was spent without a successor, or its session has ended.
    None,
    /// It has none, or cannot read it: another replica keeps its own.
    Unknown,
}

/// Why a text is no key. Contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not Base64, or not of 32 bytes.
    #[error(
        "it is not a key: it must contain 32 bytes in Base64, the same on all replicas; make one \
         with `head -c 32 /dev/urandom | base64`"
    )]
    NotAKey,
    /// Bytes that no random generator makes.
    #[error(
        "it is not a random key: all bytes are equal; make one with `head -c 32 /dev/urandom | \
         base64`"
    )]
    NotRandom,
    /// Both keys are the same.
    #[error("`old_key` is the same key as `key`; remove `old_key`")]
    Same,
}

/// Why a value was not sealed or opened. Contains nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealed with a key that this replica does not have, or to be sealed with it.
    #[error(
        "the value in etcd is sealed with the key {:016x}, which is neither `key` nor `old_key` of \
         [cluster]; set the key that the other replicas have",
        .0.0
    )]
    OtherKey(KeyId),
    /// Sealed by a later version.
    #[error("the value in etcd has a format of a later version; upgrade this replica")]
    Later,
    /// Changed, cut, or moved from another key of etcd.
    #[error("the value in etcd is damaged, or was moved there from another key")]
    Damaged,
    /// Opened, but not a token value.
    #[error("the value in etcd is not a token value")]
    NotAValue,
    /// The system has no random numbers.
    #[error("the system returns no random numbers")]
    NoRandomness,
}

impl Keys {
    /// Reads the keys that a configuration names. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// A sentence with a remedy.
    pub fn open(cluster: &Cluster, variables: Variables<'_>) -> Result<Self, String> {
        let read = |name, source: &KeySource| {
            let found = read_parameter(&source.into(), variables)
                .map_err(|error| format!("`{name}` of [cluster]: {error}"))?;
            parse(found.value.expose_secret())
                .map_err(|error| format!("`{name}` of [cluster]: {error}"))
        };
        let key = read("key", &cluster.key)?;
        let old_key = cluster.old_key.as_ref().map(|source| read("old_key", source)).transpose()?;
        Self::of(key, old_key).map_err(|error| format!("[cluster]: {error}"))
    }

    /// Parses keys in Base64: the one that is configured, and the one before.
    ///
    /// # Errors
    ///
    /// See [`KeyError`].
    ///
    /// ```
    /// use tokenkeep::cluster::seal::{KeyError, Keys};
    ///
    /// let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";
    /// assert_eq!(Keys::parse(key, None).unwrap().ids().len(), 1);
    /// assert_eq!(Keys::parse("c2hvcnQ=", None).unwrap_err(), KeyError::NotAKey);
    /// ```
    pub fn parse(key: &str, old_key: Option<&str>) -> Result<Self, KeyError> {
        Self::of(parse(key)?, old_key.map(parse).transpose()?)
    }

    fn of(
        key: (KeyId, LessSafeKey),
        old_key: Option<(KeyId, LessSafeKey)>,
    ) -> Result<Self, KeyError> {
        if old_key.as_ref().is_some_and(|(id, _)| *id == key.0) {
            return Err(KeyError::Same);
        }
        Ok(Self([Some(key), old_key].into_iter().flatten().collect()))
    }

    /// Their ids: that of `key` first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    /// Seals a value with the key `with`, for the key `path` of etcd.
    ///
    /// # Errors
    ///
    /// [`SealError::OtherKey`] and [`SealError::NoRandomness`].
    pub fn seal(&self, with: KeyId, value: &Plain, path: &str) -> Result<Arc<[u8]>, SealError> {
        let key = self.key(with)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut text = value.to_json();
        let nonce_and_key = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce_and_key, Aad::from(path), &mut text)
            .map_err(|_| SealError::NotAValue)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + text.len() + MAX_TAG_LEN);
        sealed.push(VERSION);
        sealed.extend(with.0.to_be_bytes());
        sealed.extend(nonce);
        sealed.extend(&*text);
        sealed.extend(tag.as_ref());
        Ok(sealed.into())
    }

    /// Opens the value that the key `path` of etcd contains.
    ///
    /// # Errors
    ///
    /// See [`SealError`].
    pub fn open_value(&self, sealed: &[u8], path: &str) -> Result<Plain, SealError> {
        let key = self.key(key_of(sealed)?)?;
        let (header, text) = sealed.split_at_checked(HEADER_BYTES).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(&header[1 + ID_BYTES..])
            .map_err(|_| SealError::Damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let text =
            key.open_in_place(nonce, Aad::from(path), &mut text).map_err(|_| SealError::Damaged)?;
        Plain::parse(text).ok_or(SealError::NotAValue)
    }

    fn key(&self, id: KeyId) -> Result<&LessSafeKey, SealError> {
        let found = self.0.iter().find(|(other, _)| *other == id);
        found.map(|(_, key)| key).ok_or(SealError::OtherKey(id))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// The id of the key that a value is sealed with.
///
/// # Errors
///
/// [`SealError::Later`] and [`SealError::Damaged`].
pub fn key_of(sealed: &[u8]) -> Result<KeyId, SealError> {
    match sealed {
        [VERSION, rest @ ..] => {
            let id = rest.first_chunk().ok_or(SealError::Damaged)?;
            Ok(KeyId(u64::from_be_bytes(*id)))
        }
        [] => Err(SealError::Damaged),
        _ => Err(SealError::Later),
    }
}

impl Plain {
    fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let json = PlainJson {
            value: self.value.expose(),
            refresh: match &self.refresh {
                Refresh::Token(refresh) => Some(Some(refresh.expose())),
                Refresh::None => Some(None),
                Refresh::Unknown => None,
            },
        };
        // Longer than any JSON of it, so that the buffer does not grow and leave copies behind.
        let longest = 64 + 6 * (json.value.len() + json.refresh.flatten().map_or(0, str::len));
        let mut text = Zeroizing::new(Vec::with_capacity(longest));
        // Two strings: serializing them into memory cannot fail.
        let _ = serde_json::to_writer(&mut *text, &json);
        text
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let OwnedJson { value, refresh } = serde_json::from_slice(text).ok()?;
        let (value, refresh) = (Zeroizing::new(value), refresh.map(|it| it.map(Zeroizing::new)));
        let value = TokenValue::parse(&value).ok()?;
        let refresh = match refresh {
            Some(Some(text)) => Refresh::Token(TokenValue::parse(&text).ok()?),
            Some(None) => Refresh::None,
            None => Refresh::Unknown,
        };
        Some(Self { value, refresh })
    }
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Serialize)]
#[expect(clippy::option_option, reason = "a field that is omitted, and one that is null")]
struct PlainJson<'a> {
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh: Option<Option<&'a str>>,
}

/// Unknown fields are ignored: a later version may add some.
#[derive(Deserialize)]
#[expect(clippy::option_option, reason = "a field that is omitted, and one that is null")]
struct OwnedJson {
    value: String,
    #[serde(default, deserialize_with = "present")]
    refresh: Option<Option<String>>,
}

/// A field that is there, though it may be null.
#[expect(clippy::option_option, reason = "a field that is omitted, and one that is null")]
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn parse(text: &str) -> Result<(KeyId, LessSafeKey), KeyError> {
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new).map_err(|_| KeyError::NotAKey)?;
    if bytes.len() != KEY_BYTES {
        return Err(KeyError::NotAKey);
    }
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(KeyError::NotRandom);
    }
    let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyError::NotAKey)?;
    Ok((id(&bytes), LessSafeKey::new(key)))
}

/// A digest of the key. It says nothing about a random key but whether it is the same.
fn id(key: &[u8]) -> KeyId {
    let mut digest = Context::new(&SHA256);
    digest.update(b"tokenkeep cluster key\0");
    digest.update(key);
    let mut id = [0; ID_BYTES];
    for (byte, of_digest) in id.iter_mut().zip(digest.finish().as_ref()) {
        *byte = *of_digest;
    }
    KeyId(u64::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/tokenkeep/value/sarus/quotes";

    fn key(seed: u8) -> String {
        STANDARD.encode(std::array::from_fn::<u8, KEY_BYTES, _>(|at| seed ^ at.to_le_bytes()[0]))
    }

    fn plain(value: &str, refresh: Option<&str>) -> Plain {
        let value = TokenValue::parse(value).unwrap();
        let token = |text| Refresh::Token(TokenValue::parse(text).unwrap());
        Plain { value, refresh: refresh.map_or(Refresh::None, token) }
    }

    #[test]
    fn unknown_refresh_token_is_omitted_and_none_is_null() {
        let value = || TokenValue::parse("a").unwrap();
        let token = Refresh::Token(TokenValue::parse("b").unwrap());
        for (refresh, text) in [
            (token, r#"{"value":"a","refresh":"b"}"#),
            (Refresh::None, r#"{"value":"a","refresh":null}"#),
            (Refresh::Unknown, r#"{"value":"a"}"#),
        ] {
            let plain = Plain { value: value(), refresh };
            assert_eq!(str::from_utf8(&plain.to_json()).unwrap(), text);
            assert_eq!(Plain::parse(text.as_bytes()).unwrap(), plain);
        }
    }

    #[test]
    fn sealed_value_is_opened_by_its_key_only() {
        let keys = Keys::parse(&key(1), None).unwrap();
        let other = Keys::parse(&key(2), None).unwrap();
        let id = keys.ids()[0];
        for plain in [plain(r#"S3CR3T-"é\"#, Some("R3FR35H")), plain("S3CR3T", None)] {
            let sealed = keys.seal(id, &plain, PATH).unwrap();
            assert_eq!(keys.open_value(&sealed, PATH).unwrap(), plain);
            assert_eq!(other.open_value(&sealed, PATH), Err(SealError::OtherKey(id)));
        }
        assert_eq!(other.seal(id, &plain("a", None), PATH), Err(SealError::OtherKey(id)));
    }

    #[test]
    fn old_key_still_opens_and_seals() {
        let old = Keys::parse(&key(1), None).unwrap();
        let sealed = old.seal(old.ids()[0], &plain("a", None), PATH).unwrap();
        let both = Keys::parse(&key(2), Some(&key(1))).unwrap();
        assert_eq!(both.open_value(&sealed, PATH).unwrap(), plain("a", None));
        assert_eq!(both.ids()[1], old.ids()[0]);
        let sealed = both.seal(both.ids()[1], &plain("b", None), PATH).unwrap();
        assert_eq!(old.open_value(&sealed, PATH).unwrap(), plain("b", None));
        assert_eq!(key_of(&sealed), Ok(old.ids()[0]));
    }

    #[test]
    fn value_moved_to_another_key_of_etcd_is_refused() {
        let keys = Keys::parse(&key(1), None).unwrap();
        let sealed = keys.seal(keys.ids()[0], &plain("a", None), PATH).unwrap();
        let moved = keys.open_value(&sealed, "/tokenkeep/value/sarus/orders");
        assert_eq!(moved, Err(SealError::Damaged));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let keys = Keys::parse(&key(1), None).unwrap();
        let sealed = keys.seal(keys.ids()[0], &plain("a", Some("b")), PATH).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            keys.open_value(&changed, PATH).expect_err("a changed byte");
            keys.open_value(&sealed[..at], PATH).expect_err("a cut value");
        }
    }

    #[test]
    fn same_value_is_never_sealed_to_the_same_bytes() {
        let keys = Keys::parse(&key(1), None).unwrap();
        let sealed = || keys.seal(keys.ids()[0], &plain("a", None), PATH).unwrap();
        assert_ne!(sealed(), sealed());
    }

    #[test]
    fn nothing_secret_is_in_sealed_bytes_or_debug() {
        let keys = Keys::parse(&key(1), None).unwrap();
        let plain = plain("S3CR3T", Some("R3FR35H"));
        let sealed = keys.seal(keys.ids()[0], &plain, PATH).unwrap();
        let text = String::from_utf8_lossy(&sealed);
        assert!(!text.contains("S3CR") && !text.contains("R3FR"));
        assert_eq!(format!("{plain:?}"), "[redacted]");
        assert!(!format!("{keys:?}").contains(&key(1)[..8]));
    }

    #[test]
    fn key_must_be_32_random_bytes() {
        let zeros = STANDARD.encode([0; KEY_BYTES]);
        for (text, error) in [
            ("", KeyError::NotAKey),
            ("S3CR3T!", KeyError::NotAKey),
            (&key(1)[4..], KeyError::NotAKey),
            (&(key(1) + &key(2)), KeyError::NotAKey),
            (&zeros, KeyError::NotRandom),
        ] {
            assert_eq!(Keys::parse(text, None).unwrap_err(), error, "{text}");
            assert!(!error.to_string().contains("S3CR3T"));
        }
        assert_eq!(Keys::parse(&key(1), Some(&key(1))).unwrap_err(), KeyError::Same);
        assert!(Keys::parse(&format!(" {}\n", key(1)), None).is_ok());
    }
}
