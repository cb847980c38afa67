//! The JSON of the responses of etcd's gateway. Integers of 64 bits are strings, bytes are Base64, and
//! fields that are zero are missing.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
pub(super) struct HeaderJson {
    #[serde(default)]
    pub(super) cluster_id: Int<u64>,
    #[serde(default)]
    pub(super) revision: Int<i64>,
}

#[derive(Deserialize)]
pub(super) struct LeaseJson {
    #[serde(rename = "ID", default)]
    pub(super) id: Int<i64>,
    #[serde(rename = "TTL", default)]
    pub(super) ttl: Int<i64>,
}

#[derive(Deserialize)]
pub(super) struct TokenJson {
    #[serde(default)]
    pub(super) token: String,
}

#[derive(Deserialize)]
pub(super) struct KvJson<'a> {
    #[serde(borrow, default)]
    pub(super) key: Cow<'a, str>,
    #[serde(default)]
    pub(super) mod_revision: Int<i64>,
    #[serde(borrow, default)]
    pub(super) value: Cow<'a, str>,
    #[serde(default)]
    pub(super) lease: Int<i64>,
}

#[derive(Deserialize)]
pub(super) struct RangeJson<'a> {
    pub(super) header: Option<HeaderJson>,
    #[serde(borrow, default)]
    pub(super) kvs: Vec<KvJson<'a>>,
    #[serde(default)]
    pub(super) more: bool,
    #[serde(default)]
    pub(super) count: Int<i64>,
}

#[derive(Deserialize)]
pub(super) struct TxnJson<'a> {
    pub(super) header: Option<HeaderJson>,
    #[serde(default)]
    pub(super) succeeded: bool,
    #[serde(borrow, default)]
    pub(super) responses: Vec<ResponseJson<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ResponseJson<'a> {
    #[serde(borrow, rename = "response_range")]
    pub(super) range: Option<RangeJson<'a>>,
}

#[derive(Deserialize)]
pub(super) struct StreamJson<'a, T> {
    pub(super) result: Option<T>,
    #[serde(borrow)]
    pub(super) error: Option<ErrorJson<'a>>,
}

#[derive(Deserialize)]
pub(super) struct WatchJson<'a> {
    pub(super) header: Option<HeaderJson>,
    #[serde(default)]
    pub(super) created: bool,
    #[serde(default)]
    pub(super) canceled: bool,
    #[serde(default)]
    pub(super) compact_revision: Int<i64>,
    #[serde(borrow, default)]
    pub(super) cancel_reason: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) events: Vec<EventJson<'a>>,
}

#[derive(Deserialize)]
pub(super) struct EventJson<'a> {
    #[serde(borrow, rename = "type", default)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kv: Option<KvJson<'a>>,
}

/// The error of a unary request, or of a stream.
#[derive(Deserialize)]
pub(super) struct ErrorJson<'a> {
    #[serde(alias = "grpc_code")]
    pub(super) code: Option<u32>,
    #[serde(borrow, default)]
    pub(super) message: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct StatusJson<'a> {
    pub(super) header: Option<HeaderJson>,
    #[serde(borrow, default)]
    pub(super) version: Cow<'a, str>,
    #[serde(default)]
    pub(super) leader: Int<u64>,
    #[serde(borrow, default)]
    pub(super) errors: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct VersionJson<'a> {
    #[serde(borrow)]
    pub(super) etcdserver: Cow<'a, str>,
}

/// A number that JSON has as a string, or as a number.
#[derive(Default, Clone, Copy)]
pub(super) struct Int<T>(pub(super) T);

impl<'de, T: FromStr + TryFrom<u64> + TryFrom<i64>> Deserialize<'de> for Int<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor(PhantomData)).map(Self)
    }
}

struct IntVisitor<T>(PhantomData<T>);

impl<T: FromStr + TryFrom<u64> + TryFrom<i64>> Visitor<'_> for IntVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 64 bits")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::custom("out of range"))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::custom("out of range"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::custom("not a whole number in range"))
    }
}
