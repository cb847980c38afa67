//! What responses of etcd's JSON gateway mean. Pure: bytes in, answers out.
//!
//! Of etcd's words only its own fixed messages are quoted, because other text might repeat a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::responses::{
    ErrorJson, HeaderJson, Int, KvJson, LeaseJson, RangeJson, StatusJson, StreamJson, TokenJson,
    TxnJson, VersionJson, WatchJson,
};
use crate::cluster::record;
use crate::cluster::replica::{Entry, Reason, StoreRevision};

/// The longest message of etcd that is quoted, in bytes.
const MAX_MESSAGE_BYTES: usize = 160;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The token for requests is missing or not valid any more. Nothing was executed.
    LogIn,
    /// There is no such lease. Nothing was executed.
    NoLease,
    /// The revision is not stored any more.
    Compacted,
    /// etcd has no users, so it issues no token for requests.
    NoUsers,
    /// Not executed, and never will be: why, with a remedy.
    Refused(String),
    /// The same, because the user lacks a right.
    Denied(String),
    /// The endpoint cannot answer. The request may have been executed.
    Unavailable(Reason),
}

/// Who uses what: for remedies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// The prefix of all keys.
    pub(super) prefix: &'a str,
    /// The user of etcd, if one is configured.
    pub(super) user: Option<&'a str>,
}

/// A key, and the lease that it is bound to; 0 without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) lease: i64,
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Executed {
    pub(super) succeeded: bool,
    pub(super) at: StoreRevision,
    /// The keys that were read and exist.
    pub(super) found: Vec<Found>,
}

/// Some of the keys below the prefix, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) at: StoreRevision,
    pub(super) found: Vec<Found>,
    /// The first and the last key, known to this version or not.
    pub(super) keys: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether the range has more keys.
    pub(super) more: bool,
    /// Number of keys of the range.
    pub(super) count: u64,
}

/// A line of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WatchLine {
    /// The watch has begun, on a member of etcd in this state.
    Created(StoreRevision),
    /// Keys have changed. The revision is the one of the last change.
    Changed(StoreRevision, Vec<Entry>),
    /// Nothing else has changed up to this revision.
    Progress(StoreRevision),
}

/// Of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) at: StoreRevision,
}

/// The new lease.
pub(super) fn granted(body: &[u8]) -> Result<i64, Failure> {
    let LeaseJson { id, .. } = parse(body)?;
    if id.0 > 0 { Ok(id.0) } else { Err(malformed()) }
}

/// Whether the lease was renewed; otherwise it has expired.
pub(super) fn kept_alive(body: &[u8], context: Context<'_>) -> Result<bool, Failure> {
    let lease: LeaseJson = streamed(body, context)?;
    if lease.id.0 <= 0 {
        return Err(malformed());
    }
    Ok(lease.ttl.0 > 0)
}

/// The token for requests.
pub(super) fn token(body: &[u8]) -> Result<String, Failure> {
    let TokenJson { token } = parse(body)?;
    let is_plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { Ok(token) } else { Err(malformed()) }
}

/// The result of a transaction.
pub(super) fn executed(body: &[u8], context: Context<'_>) -> Result<Executed, Failure> {
    let txn: TxnJson<'_> = parse(body)?;
    let at = revision(txn.header.as_ref())?;
    let ranges = txn.responses.into_iter().filter_map(|response| response.range);
    let found = ranges.flat_map(|range| range.kvs).map(|kv| found(&kv, context));
    let found = found.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    Ok(Executed { succeeded: txn.succeeded, at, found })
}

/// Some of the keys.
pub(super) fn page(body: &[u8], context: Context<'_>) -> Result<Page, Failure> {
    let range: RangeJson<'_> = parse(body)?;
    let at = revision(range.header.as_ref())?;
    let key = |kv: &KvJson<'_>| STANDARD.decode(&*kv.key).map_err(|_| malformed());
    let keys = match (range.kvs.first(), range.kvs.last()) {
        (Some(first), Some(last)) => Some((key(first)?, key(last)?)),
        // Without a key there is no next page.
        _ if range.more => return Err(malformed()),
        _ => None,
    };
    let (more, count) = (range.more, unsigned(range.count)?);
    let found = range.kvs.iter().map(|kv| found(kv, context));
    let found = found.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    Ok(Page { at, found, keys, more, count })
}

/// A line of a watch.
pub(super) fn watch_line(line: &[u8], context: Context<'_>) -> Result<WatchLine, Failure> {
    let watch: WatchJson<'_> = streamed(line, context)?;
    if watch.compact_revision.0 > 0 {
        return Err(Failure::Compacted);
    }
    if watch.canceled {
        let reason = &*watch.cancel_reason;
        let message = reason.rsplit_once("desc = ").map_or(reason, |(_, message)| message);
        return Err(failure(None, message, context));
    }
    let at = revision(watch.header.as_ref())?;
    if watch.created {
        return Ok(WatchLine::Created(at));
    }
    if watch.events.is_empty() {
        return Ok(WatchLine::Progress(at));
    }
    // The state of etcd in the header may be later than the changes that were sent.
    let mut last = 0;
    let changed = watch.events.iter().map(|event| {
        let kv = event.kv.as_ref().ok_or_else(malformed)?;
        let is_deleted = event.kind == "DELETE";
        last = last.max(unsigned(kv.mod_revision)?);
        Ok(found(kv, context)?.map(|Found { mut entry, .. }| {
            if is_deleted {
                entry.record = None;
            }
            entry
        }))
    });
    let entries = changed.filter_map(Result::transpose).collect::<Result<_, Failure>>()?;
    Ok(WatchLine::Changed(StoreRevision { revision: last, ..at }, entries))
}

/// The state of an endpoint.
pub(super) fn status(body: &[u8]) -> Result<Status, Failure> {
    let status: StatusJson<'_> = parse(body)?;
    let at = revision(status.header.as_ref())?;
    if status.leader.0 == 0 {
        let text = format!(
            "it has no leader: the quorum is lost; check the other nodes with {CHECK_NODES}"
        );
        return Err(Failure::Unavailable(Reason::silence(text)));
    }
    if status.errors.iter().any(|error| error.contains("NOSPACE")) {
        return Err(Failure::Refused(NO_SPACE.to_owned()));
    }
    Ok(Status { version: plain_version(&status.version), at })
}

/// The version of an endpoint.
pub(super) fn version(body: &[u8]) -> Result<String, Failure> {
    let VersionJson { etcdserver } = parse(body)?;
    Ok(plain_version(&etcdserver))
}

/// A version without what it cannot contain.
fn plain_version(text: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || ".-+".contains(*c);
    text.chars().filter(plain).take(32).collect()
}

/// Why a response with this HTTP status is no answer.
pub(super) fn error(status: u16, body: &[u8], context: Context<'_>) -> Failure {
    match error_of(body) {
        Some(error) => failure(error.code, &error.message, context),
        _ if status == 400 && contains(body, COMMON_NAME) => Failure::Refused(
            "etcd has users, and then rejects each client certificate with a common name (CN): \
             issue one without a CN for `client_cert_file` of [cluster], and set `user` and \
             `password`"
                .to_owned(),
        ),
        // Other endpoints may be right.
        _ if status == 404 => Failure::Unavailable(
            "it has no JSON gateway of etcd (status 404): write the client URLs of etcd 3.4 or \
             later into `etcd` of [cluster], and start etcd without `--enable-grpc-gateway=false`"
                .into(),
        ),
        _ => Failure::Unavailable(
            format!("status {status}, and no answer of etcd's: check `etcd` of [cluster]").into(),
        ),
    }
}

/// The error of etcd in a response. Later versions also send the one of a stream like this.
fn error_of(body: &[u8]) -> Option<ErrorJson<'_>> {
    let unary = serde_json::from_slice::<ErrorJson<'_>>(body).ok();
    unary.filter(|error| error.code.is_some()).or_else(|| {
        let streamed = serde_json::from_slice::<StreamJson<'_, IgnoredAny>>(body).ok();
        streamed?.error.filter(|error| error.code.is_some())
    })
}

/// The beginning of what etcd says, in plain text, to a client certificate with a common name.
const COMMON_NAME: &str = "CommonName of client sending a request against gateway";

fn contains(body: &[u8], words: &str) -> bool {
    memchr::memmem::find(body, words.as_bytes()).is_some()
}

const NO_SPACE: &str = "etcd's database has reached its quota, and accepts no writes: compact and \
                        defragment it, then run `etcdctl alarm disarm`";

/// Asks nodes for their state. Without a quorum, etcd itself does not name them.
pub(super) const CHECK_NODES: &str = "`etcdctl endpoint status --endpoints=URLS`";

/// Codes of gRPC.
const DEADLINE_EXCEEDED: u32 = 4;
const PERMISSION_DENIED: u32 = 7;
const UNKNOWN: u32 = 2;
const ABORTED: u32 = 10;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;
const CANCELLED: u32 = 1;

/// What a message means; without a code by its words alone.
fn failure(code: Option<u32>, message: &str, context: Context<'_>) -> Failure {
    let Context { prefix, user } = context;
    let has = |words: &str| message.contains(words);
    if has("invalid auth token") || has("revision of auth store is old") {
        return Failure::LogIn;
    }
    if has("user name is empty") {
        return match user {
            Some(_) => Failure::LogIn,
            None => Failure::Refused(
                "etcd has users, and requires one: set `user` and `password` of [cluster]; it does \
                 not take the user from the client certificate"
                    .to_owned(),
            ),
        };
    }
    if has("authentication failed") {
        let user = user.unwrap_or_default();
        return Failure::Refused(format!(
            "etcd does not accept the user {user} with its password: check `user` and `password` \
             of [cluster]"
        ));
    }
    if has("authentication is not enabled") {
        return Failure::NoUsers;
    }
    if code == Some(PERMISSION_DENIED) || has("permission denied") {
        let user = user.unwrap_or("(none)");
        return Failure::Denied(format!(
            "the user {user} of etcd may not read and write all keys below {prefix}/: run `etcdctl \
             role grant-permission ROLE readwrite --prefix=true {prefix}/` for a role of this user"
        ));
    }
    if has("requested lease not found") {
        return Failure::NoLease;
    }
    if has("required revision has been compacted") {
        return Failure::Compacted;
    }
    if has("database space exceeded") {
        return Failure::Refused(NO_SPACE.to_owned());
    }
    let quoted = quote(message);
    let may_pass = [UNKNOWN, CANCELLED, DEADLINE_EXCEEDED, ABORTED, INTERNAL, UNAVAILABLE];
    match code {
        Some(UNAUTHENTICATED) => Failure::LogIn,
        Some(code) if !may_pass.contains(&code) && !has("too many requests") => {
            Failure::Refused(format!("etcd refuses the request (code {code}{quoted})"))
        }
        // Not a message of etcd itself.
        Some(UNAVAILABLE) if !has("etcdserver: ") => Failure::Unavailable(
            "the JSON gateway of etcd cannot connect to etcd itself: this node does not run, or \
             etcd demands client certificates, and the node's own one is not valid for servers and \
             clients (extended key usage serverAuth and clientAuth), or not from an authority in \
             --trusted-ca-file"
                .into(),
        ),
        Some(code) => {
            let text = format!(
                "etcd cannot answer (code {code}{quoted}); check its nodes with {CHECK_NODES}"
            );
            Failure::Unavailable(Reason::silence(text))
        }
        None => Failure::Unavailable(Reason::silence(format!("etcd has ended the watch{quoted}"))),
    }
}

/// One of etcd's own messages, to be appended; nothing of other text.
fn quote(message: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " ,.:;'()-_/".contains(c);
    let is_own = message.starts_with("etcdserver: ")
        && message.len() <= MAX_MESSAGE_BYTES
        && message.chars().all(is_plain);
    if is_own { format!(": {message}") } else { String::new() }
}

/// A response that is not etcd's.
fn malformed() -> Failure {
    Failure::Unavailable("its answer is not one of etcd's: check `etcd` of [cluster]".into())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|_| malformed())
}

/// The content of a line of a stream: a result or an error.
fn streamed<'a, T: Deserialize<'a>>(line: &'a [u8], context: Context<'_>) -> Result<T, Failure> {
    match parse::<StreamJson<'a, T>>(line)? {
        StreamJson { result: Some(result), .. } => Ok(result),
        StreamJson { error: Some(error), .. } => Err(failure(error.code, &error.message, context)),
        StreamJson { .. } => Err(malformed()),
    }
}

/// The entry of a key; `None` for a key that this version does not know.
fn found(kv: &KvJson<'_>, context: Context<'_>) -> Result<Option<Found>, Failure> {
    let path = STANDARD.decode(&*kv.key).map_err(|_| malformed())?;
    let path = str::from_utf8(&path).ok();
    let Some(key) = path.and_then(|path| record::parse_path(context.prefix, path)) else {
        return Ok(None);
    };
    let content = STANDARD.decode(&*kv.value).map_err(|_| malformed())?;
    let revision = unsigned(kv.mod_revision)?;
    let record = Some(record::decode(&key, &content));
    Ok(Some(Found { entry: Entry { key, record, revision }, lease: kv.lease.0 }))
}

fn revision(header: Option<&HeaderJson>) -> Result<StoreRevision, Failure> {
    let header = header.filter(|header| header.cluster_id.0 != 0).ok_or_else(malformed)?;
    let revision = unsigned(header.revision)?;
    Ok(StoreRevision { cluster: header.cluster_id.0, revision })
}

fn unsigned(number: Int<i64>) -> Result<u64, Failure> {
    u64::try_from(number.0).map_err(|_| malformed())
}

/// The error as the reason of a `StoreError`.
impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LogIn => "etcd does not accept the token that it has issued".into(),
            Failure::NoLease => "the lease in etcd has expired".into(),
            Failure::Compacted => "the revision was compacted".into(),
            Failure::NoUsers => "etcd has no users".into(),
            Failure::Refused(text) | Failure::Denied(text) => text.into(),
            Failure::Unavailable(reason) => reason,
        }
    }
}

#[cfg(test)]
#[path = "interpret_tests.rs"]
mod tests;
