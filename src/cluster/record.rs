//! Records as etcd stores them: JSON, but for values, which are sealed bytes; and the text of their
//! keys.
//!
//! Unknown fields and unknown keys are ignored, so that replicas of two versions work together. What
//! cannot be read becomes [`Record::Unreadable`]; its reason quotes nothing of the content.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::replica::{Claim, Count, Key, KeyId, Member, Meta, Record, SLOTS, TokenKey};
use crate::secret::is_invisible;
use crate::time::{Moment, whole_millis};

/// The longest `limit` of a claim. A longer one would block a token for as long.
const MAX_LIMIT_MS: u64 = 24 * 60 * 60 * 1_000;

/// The longest name of a replica in bytes, as for a host.
const MAX_NAME_BYTES: usize = 255;

/// Bytes of the digests of all slots.
const DIGEST_BYTES: usize = SLOTS * size_of::<u32>();

/// The text of a key: `PREFIX/meta`, `PREFIX/value/SERVER/NAME`.
pub fn path(prefix: &str, key: &Key) -> String {
    let (kind, name) = match key {
        Key::Meta => return format!("{prefix}/meta"),
        Key::Member(name) => ("member", &**name),
        Key::Paused(token) => ("paused", token.as_str()),
        Key::Value(token) => ("value", token.as_str()),
        Key::Claim(token) => ("claim", token.as_str()),
        Key::Count(token) => ("count", token.as_str()),
    };
    format!("{prefix}/{kind}/{name}")
}

/// The key of a text; `None` if it is no key of this version, or not below `prefix`.
pub fn parse_path(prefix: &str, path: &str) -> Option<Key> {
    let path = path.strip_prefix(prefix)?.strip_prefix('/')?;
    let Some((kind, name)) = path.split_once('/') else {
        return (path == "meta").then_some(Key::Meta);
    };
    let token = || TokenKey::parse(name);
    match kind {
        "member" => is_name(name).then(|| Key::Member(name.into())),
        "paused" => token().map(Key::Paused),
        "value" => token().map(Key::Value),
        "claim" => token().map(Key::Claim),
        "count" => token().map(Key::Count),
        _ => None,
    }
}

/// The content of a record. [`Record::Unreadable`] is never written, and is empty.
pub fn encode(record: &Record) -> Vec<u8> {
    match record {
        Record::Meta(meta) => json(&MetaJson { format: meta.format, key: meta.key.into() }),
        Record::Member(member) => json(&MemberJson::of(member)),
        Record::Paused => b"{}".to_vec(),
        Record::Value(sealed) => sealed.to_vec(),
        Record::Claim(claim) => json(&ClaimJson::of(claim)),
        Record::Count(count) => json(&CountJson {
            window_end_ms: count.window_end_ms,
            counted: count.counted,
            in_a_row: count.in_a_row,
        }),
        Record::Unreadable(_) => Vec::new(),
    }
}

/// The record that `key` contains.
pub fn decode(key: &Key, content: &[u8]) -> Record {
    let record = match key {
        Key::Meta => parse("the format", content)
            .map(|MetaJson { format, key }| Record::Meta(Meta { format, key: KeyId(key.0) })),
        Key::Member(_) => parse("a replica", content)
            .and_then(MemberJson::into_member)
            .map(|member| Record::Member(Arc::new(member))),
        // Its existence is all that counts.
        Key::Paused(_) => Ok(Record::Paused),
        Key::Value(_) => Ok(Record::Value(content.into())),
        Key::Claim(_) => {
            parse("a claim", content).and_then(ClaimJson::into_claim).map(Record::Claim)
        }
        Key::Count(_) => parse("the attempts", content).map(|count: CountJson| {
            let CountJson { window_end_ms, counted, in_a_row } = count;
            Record::Count(Count { window_end_ms, counted, in_a_row })
        }),
    };
    record.unwrap_or_else(|why| Record::Unreadable(why.into()))
}

/// A number of 64 bits as 16 hexadecimal digits: most JSON parsers cannot read it as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hex(u64);

impl From<KeyId> for Hex {
    fn from(id: KeyId) -> Self {
        Self(id.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        // `from_str_radix` would accept a sign.
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(&text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| D::Error::custom("not 16 hexadecimal digits"))
    }
}

#[derive(Serialize, Deserialize)]
struct MetaJson {
    format: u32,
    key: Hex,
}

#[derive(Serialize, Deserialize)]
struct MemberJson {
    incarnation: Hex,
    format: u32,
    keys: Vec<Hex>,
    /// Base64 of [`SLOTS`] numbers of 32 bits, the lowest byte first.
    digests: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<String>,
    wall_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct ClaimJson {
    replica: String,
    incarnation: Hex,
    nonce: Hex,
    limit_ms: u64,
    boot: Hex,
    taken_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct CountJson {
    window_end_ms: i64,
    counted: u32,
    in_a_row: u32,
}

impl MemberJson {
    fn of(member: &Member) -> Self {
        let digests: Vec<u8> = member.digests.iter().flat_map(|d| d.to_le_bytes()).collect();
        Self {
            incarnation: Hex(member.incarnation),
            format: member.format,
            keys: member.keys.iter().map(|id| Hex(id.0)).collect(),
            digests: STANDARD.encode(digests),
            unreachable: member.unreachable.iter().map(ToString::to_string).collect(),
            wall_ms: member.wall_ms,
        }
    }

    fn into_member(self) -> Result<Member, String> {
        let bytes = STANDARD.decode(&self.digests).unwrap_or_default();
        if bytes.len() != DIGEST_BYTES {
            return Err(format!("`digests` is not Base64 of {DIGEST_BYTES} bytes"));
        }
        let mut digests = Box::new([0; SLOTS]);
        for (digest, bytes) in digests.iter_mut().zip(bytes.as_chunks().0) {
            *digest = u32::from_le_bytes(*bytes);
        }
        Ok(Member {
            incarnation: self.incarnation.0,
            format: self.format,
            keys: self.keys.into_iter().map(|id| KeyId(id.0)).collect(),
            digests,
            unreachable: self.unreachable.into_iter().map(Into::into).collect(),
            wall_ms: self.wall_ms,
        })
    }
}

impl ClaimJson {
    fn of(claim: &Claim) -> Self {
        let (boot, taken) = claim.taken;
        Self {
            replica: claim.replica.as_ref().into(),
            incarnation: Hex(claim.incarnation),
            nonce: Hex(claim.nonce),
            limit_ms: whole_millis(claim.limit),
            boot: Hex(boot),
            taken_ms: taken.as_millis(),
        }
    }

    fn into_claim(self) -> Result<Claim, String> {
        if !is_name(&self.replica) {
            return Err("`replica` is not a replica's name".to_owned());
        }
        if self.limit_ms > MAX_LIMIT_MS {
            return Err("`limit_ms` is longer than a day".to_owned());
        }
        Ok(Claim {
            replica: self.replica.into(),
            incarnation: self.incarnation.0,
            nonce: self.nonce.0,
            limit: Duration::from_millis(self.limit_ms),
            taken: (self.boot.0, Moment::from_millis(self.taken_ms)),
        })
    }
}

/// Whether this can be the name of a replica, which is printed and is part of a key.
fn is_name(text: &str) -> bool {
    let is_odd = |c: char| c == '/' || c.is_whitespace() || c.is_control() || is_invisible(c);
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains(is_odd)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Plain structures without maps: serializing them cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// The parser's own messages may quote the content.
fn parse<T: DeserializeOwned>(what: &str, content: &[u8]) -> Result<T, String> {
    serde_json::from_slice(content).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("it is not the JSON of {what} (line {line}, column {column})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenKey {
        TokenKey::new("sarus", "a/b %")
    }

    fn member() -> Member {
        let mut digests = Box::new([0; SLOTS]);
        for (digest, number) in digests.iter_mut().zip(1_u32..) {
            *digest = number.wrapping_mul(0x9e37_79b9);
        }
        let keys = vec![KeyId(1), KeyId(u64::MAX)];
        let unreachable = vec!["sarus".into(), "a%20b".into()];
        Member { incarnation: u64::MAX - 1, format: 1, keys, digests, unreachable, wall_ms: -5 }
    }

    fn claim() -> Claim {
        Claim {
            replica: "keeper-a".into(),
            incarnation: 3,
            nonce: u64::MAX,
            limit: Duration::from_millis(40_001),
            taken: (7, Moment::from_millis(u64::MAX)),
        }
    }

    fn records() -> Vec<(Key, Record)> {
        let count = Count { window_end_ms: i64::MIN, counted: u32::MAX, in_a_row: 2 };
        vec![
            (Key::Meta, Record::Meta(Meta { format: 1, key: KeyId(0xab) })),
            (Key::Member("keeper-a".into()), Record::Member(Arc::new(member()))),
            (Key::Paused(token()), Record::Paused),
            (Key::Value(token()), Record::Value([1, 0, 255].as_slice().into())),
            (Key::Claim(token()), Record::Claim(claim())),
            (Key::Count(token()), Record::Count(count)),
        ]
    }

    #[test]
    fn records_and_keys_are_read_as_they_were_written() {
        for (key, record) in records() {
            assert_eq!(decode(&key, &encode(&record)), record);
            let text = path("/tokenkeep/prod", &key);
            assert_eq!(parse_path("/tokenkeep/prod", &text), Some(key), "{text}");
        }
        assert_eq!(path("/p", &Key::Claim(token())), "/p/claim/sarus/a%2fb%20%25");
    }

    #[test]
    fn member_record_is_small() {
        // The default limit of etcd is 1.5 MiB, and each replica writes one at each change.
        assert!(encode(&Record::Member(Arc::new(member()))).len() < 6_000);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let content = br#"{"format":2,"later":{"a":[1]},"key":"00000000000000ab"}"#;
        let meta = Meta { format: 2, key: KeyId(0xab) };
        assert_eq!(decode(&Key::Meta, content), Record::Meta(meta));
    }

    #[test]
    fn other_keys_are_none() {
        for path in [
            "",
            "/p",
            "/p/",
            "/p/meta/",
            "/p/Meta",
            "/p/member/",
            "/p/member/a/b",
            "/p/member/a b",
            "/p/member/a\u{202e}",
            "/p/value/a",
            "/p/value//a",
            "/p/value/a/",
            "/p/value/a/b/c",
            "/p/later/a/b",
            "/pp/meta",
            "/q/meta",
        ] {
            assert_eq!(parse_path("/p", path), None, "{path:?}");
        }
    }

    #[test]
    fn hostile_content_is_unreadable_and_is_not_quoted() {
        let valid = String::from_utf8(encode(&Record::Claim(claim()))).unwrap();
        let contents = [
            String::new(),
            "null".to_owned(),
            "\u{0}".to_owned(),
            r#""S3CR3T""#.to_owned(),
            r#"{"S3CR3T":1}"#.to_owned(),
            "[".repeat(100_000),
            valid.replace("keeper-a", "S3CR3T\\u001b[2J"),
            valid.replace("keeper-a", ""),
            valid.replace("keeper-a", &"S3CR3T".repeat(100)),
            valid.replace("40001", "86400001"),
            valid.replace("40001", "-1"),
            valid.replace("40001", r#""S3CR3T""#),
            valid.replace("ffffffffffffffff", "+fffffffffffffff"),
            valid.replace("ffffffffffffffff", "ffffffffffffffff0"),
            valid[..valid.len() - 1].to_owned(),
            valid + "x",
        ];
        for content in contents {
            let Record::Unreadable(why) = decode(&Key::Claim(token()), content.as_bytes()) else {
                panic!("{content}");
            };
            assert!(!why.contains("S3CR3T"), "{why}");
        }
    }

    #[test]
    fn digests_of_another_length_are_unreadable() {
        let json = String::from_utf8(encode(&Record::Member(Arc::new(member())))).unwrap();
        let shorter = json.replace("\"digests\":\"", "\"digests\":\"AAAA");
        let record = decode(&Key::Member("a".into()), shorter.as_bytes());
        assert_eq!(record, Record::Unreadable("`digests` is not Base64 of 4096 bytes".into()));
    }
}
