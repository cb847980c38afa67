//! Events of the cluster.

use std::time::Duration;

use crate::cluster::replica::{ClusterNotice, Overdue};
use crate::daemon::tokens::{Tokens, names_of};
use crate::event_log::{EventLog, EventName, Fields};
use crate::scheduler::TokenId;
use crate::text::format_millis;
use crate::time::{Moment, whole_millis};

/// Logs what the replica reports.
pub(super) fn replica(log: &mut EventLog, own: &str, notice: &ClusterNotice) {
    let (name, message, replica, error) = match notice {
        ClusterNotice::Joined { members } => (
            EventName::ClusterJoined,
            match members {
                1 => "joined the cluster as its only replica".to_owned(),
                members => format!("joined the cluster; {members} replicas"),
            },
            Some(own),
            None,
        ),
        ClusterNotice::ReplicaJoined(other) => {
            (EventName::ReplicaJoined, format!("replica {other} has joined"), Some(&**other), None)
        }
        ClusterNotice::ReplicaLeft(other) => (
            EventName::ReplicaLeft,
            format!("replica {other} has left or is silent; the others check its tokens"),
            Some(&**other),
            None,
        ),
        ClusterNotice::Unreachable(error) => (
            EventName::ClusterUnreachable,
            format!("etcd cannot be used: {error}; checks continue, and logins wait"),
            None,
            Some(&**error),
        ),
        ClusterNotice::Recovered => {
            (EventName::ClusterRecovered, "etcd can be used again".to_owned(), None, None)
        }
        ClusterNotice::ClockDiffers(other, by_ms) => {
            let error = format!(
                "the wall clocks differ by {}: windows of `max_attempts` end too early or too late \
                 on one of them; synchronise the clocks",
                format_millis(by_ms.unsigned_abs())
            );
            let message = format!("the clock of replica {other} differs");
            return log.config_warning(&message, None, &error);
        }
    };
    log.event(name, &message, Fields { error, replica, ..Fields::default() });
}

/// Logs that another replica has the name of this one, which stops.
pub(super) fn name_taken(log: &mut EventLog, own: &str) {
    let error = "another replica has the same `cluster.name` and is alive; give each its own";
    let message = format!("{own} cannot join the cluster and stops: {error}");
    let fields = Fields { replica: Some(own), error: Some(error), ..Fields::default() };
    log.event(EventName::ClusterUnreachable, &message, fields);
}

/// Logs that a login, or another spending, waits because etcd cannot be used.
pub(super) fn held(id: TokenId, error: &str, retry_in: Duration, tokens: &mut Tokens) {
    let Some(entry) = tokens.registry.token(id) else { return };
    let retry_in_ms = Some(whole_millis(retry_in));
    let fields = Fields { error: Some(error), retry_in_ms, ..names_of(&tokens.servers, entry) };
    let message = format!(
        "a new value is needed, but without etcd another replica may be obtaining one: {error}"
    );
    tokens.log.event(EventName::ReauthHeld, &message, fields);
}

/// Logs that a login, or another spending, waits for one that another replica does not end.
pub(super) fn overdue(id: TokenId, overdue: &Overdue, now: Moment, tokens: &mut Tokens) {
    let Some(entry) = tokens.registry.token(id) else { return };
    let replica = &*overdue.replica;
    let retry_in_ms = whole_millis(overdue.free_at.since(now));
    let error = format!("{replica} has started to obtain one and has not finished in time");
    let message = format!(
        "a new value is needed, but {error}; this replica can take over in {}",
        format_millis(retry_in_ms)
    );
    let fields = Fields {
        error: Some(&error),
        replica: Some(replica),
        retry_in_ms: Some(retry_in_ms),
        ..names_of(&tokens.servers, entry)
    };
    tokens.log.event(EventName::ReauthHeld, &message, fields);
}

/// Logs that a login, or another spending, has waited for this long.
pub(super) fn held_long(id: TokenId, why: &str, waited: Duration, tokens: &mut Tokens) {
    let Some(entry) = tokens.registry.token(id) else { return };
    let fields = Fields { error: Some(why), ..names_of(&tokens.servers, entry) };
    let waited = format_millis(whole_millis(waited));
    let message =
        format!("a new value has been needed for {waited} and could not be obtained: {why}");
    tokens.log.event(EventName::ReauthHeld, &message, fields);
}

/// Logs that a login, or another spending, waits because the value in etcd cannot be opened.
pub(super) fn held_by_sealed_value(id: TokenId, error: &str, tokens: &mut Tokens) {
    let Some(entry) = tokens.registry.token(id) else { return };
    let error = format!(
        "{error}; give this replica the key that sealed it as `cluster.key` or `old_key` and reload, \
         or start `tokenkeep` in the version of the other replicas"
    );
    let fields = Fields { error: Some(&error), ..names_of(&tokens.servers, entry) };
    let message = "a new value is needed, but the one in etcd may be newer and cannot be opened";
    tokens.log.event(EventName::ReauthHeld, message, fields);
}

/// Logs that a value of another replica cannot be used.
pub(super) fn unusable_value(id: TokenId, error: &str, tokens: &mut Tokens) {
    let Some(entry) = tokens.registry.token(id) else { return };
    let fields = Fields { error: Some(error), ..names_of(&tokens.servers, entry) };
    let message = "the value of another replica cannot be used";
    tokens.log.event(EventName::ConfigWarning, message, fields);
}

/// Logs that a token can expire before another replica takes over.
pub(super) fn short_life(id: TokenId, life_ms: u64, failover: Duration, tokens: &mut Tokens) {
    let Some(entry) = tokens.registry.token(id) else { return };
    let error = format!(
        "its life is {}, less than four times `cluster.failover` ({}); set a shorter `failover`, or \
         give the token a longer life",
        format_millis(life_ms),
        format_millis(whole_millis(failover))
    );
    let fields = Fields { error: Some(&error), ..names_of(&tokens.servers, entry) };
    let message = "the token may expire before another replica takes over";
    tokens.log.event(EventName::ConfigWarning, message, fields);
}
