//! `[cluster]`: its secrets, each endpoint of etcd, the rights of its user, and what the other
//! replicas have written. Writes nothing.

use url::Host;

use crate::api::CertificateWarning;
use crate::cli::cluster::check_secrets;
use crate::cli::unit::variable;
use crate::cluster::etcd::{Access, Etcd};
use crate::cluster::link::{EndpointState, Engine as _};
use crate::cluster::record;
use crate::cluster::replica::{
    Entry, FORMAT, Key, KeyId, Meta, Record, StoreError, StoreRevision, Transaction,
};
use crate::cluster::seal::{Keys, key_of};
use crate::settings::{Cluster, KeySource};
use crate::token_source::read_parameter;

use super::diagnosis::Diagnosis;
use super::files;

/// A revision that no key ever has, so that a transaction which expects it writes nothing.
const NEVER: u64 = i64::MAX.unsigned_abs();

/// Reads the secrets as the daemon will.
pub(super) fn check_locally(cluster: &Cluster, diagnosis: &Diagnosis) {
    let findings = check_secrets(cluster);
    findings.errors.into_iter().for_each(|error| diagnosis.error(error));
    findings.warnings.into_iter().for_each(|warning| diagnosis.warning(warning));
    for (kind, text) in findings.unreadable {
        files::unreadable(&kind, text, diagnosis);
    }
}

/// Contacts each endpoint, then reads what is below the prefix.
pub(super) async fn check(cluster: &Cluster, diagnosis: &Diagnosis) {
    let is_readable = |source: &KeySource| read_parameter(&source.into(), &variable).is_ok();
    if cluster.user.as_ref().is_some_and(|(_, password)| !is_readable(password)) {
        diagnosis.warning("[cluster] etcd was not contacted: the password of its user is needed");
        return;
    }
    let access = match Access::open(cluster, &variable) {
        Ok(access) => access,
        Err(error) => return diagnosis.error(error),
    };
    if let Some(CertificateWarning { message, remedy, .. }) = access.certificate_warning() {
        diagnosis.warning(format!("{message}; {remedy}"));
    }
    let etcd = Etcd::new(access);
    if !report_endpoints(&etcd.reachable().await, diagnosis) {
        return;
    }
    let entries = match etcd.read().await {
        Ok((_, entries)) => entries,
        Err(error) => return diagnosis.error(unanswered("read", &error)),
    };
    // Both were reported before.
    let keys = Keys::open(cluster, &variable).ok();
    report_content(cluster, keys.as_ref(), &entries, diagnosis);
    // etcd checks the rights of both branches, whichever it executes.
    let key = keys.and_then(|keys| keys.ids().first().copied()).unwrap_or(KeyId(0));
    let transaction = Transaction {
        expected: vec![(Key::Meta, NEVER)],
        puts: vec![(Key::Meta, Record::Meta(Meta { format: FORMAT, key }))],
        ..Transaction::default()
    };
    match (etcd.commit(transaction).await, &cluster.user) {
        (Err(error), _) => diagnosis.error(unanswered("write to", &error)),
        (Ok(_), Some((user, _))) => {
            diagnosis.ok(format!("[cluster] {user} may read and write {}/", cluster.prefix));
        }
        (Ok(_), None) if cluster.client_certificate.is_some() || is_local(cluster) => {
            diagnosis.ok(format!("[cluster] {}/ can be read and written", cluster.prefix));
        }
        (Ok(_), None) => diagnosis.warning(
            "[cluster] etcd needs no user: everyone who can reach it can make replicas log in twice; \
             enable its users, or require client certificates",
        ),
    }
}

/// Whether only this machine reaches etcd, as in a test.
fn is_local(cluster: &Cluster) -> bool {
    cluster.etcd.iter().all(|url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    })
}

/// Why the prefix cannot be used.
fn unanswered(action: &str, error: &StoreError) -> String {
    let reason = match error {
        StoreError::Refused(reason) => reason,
        StoreError::Unanswered(reason) => reason.text(),
    };
    format!("[cluster] cannot {action} etcd: {reason}")
}

/// Reports each endpoint. Returns whether one can be used.
fn report_endpoints(states: &[EndpointState], diagnosis: &Diagnosis) -> bool {
    let some_respond = states.iter().any(|state| state.state.is_ok());
    let mut first: Option<(&str, StoreRevision)> = None;
    for EndpointState { endpoint, state } in states {
        let (version, at) = match state {
            Ok((version, at)) => (version, *at),
            Err(reason) => {
                let text = format!("[cluster] etcd at {endpoint} cannot be used: {reason}");
                if some_respond {
                    diagnosis.warning(text);
                } else {
                    diagnosis.error(text);
                }
                continue;
            }
        };
        let (other, seen) = *first.get_or_insert((endpoint, at));
        if at.cluster != seen.cluster {
            diagnosis.error(format!(
                "[cluster] {other} and {endpoint} belong to different etcd clusters: `etcd` must \
                 name the nodes of one"
            ));
        } else if is_too_old(version) {
            diagnosis.error(format!(
                "[cluster] etcd at {endpoint} has version {version}; upgrade it to 3.4 or later"
            ));
        } else {
            diagnosis.ok(format!("[cluster] etcd {version} at {endpoint} responds"));
        }
    }
    some_respond
}

/// Whether a version is known, and before 3.4.
fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (3, 4))
}

/// Reports what replicas have written below the prefix. `keys`: `None` if they cannot be read.
fn report_content(
    cluster: &Cluster,
    keys: Option<&Keys>,
    entries: &[Entry],
    diagnosis: &Diagnosis,
) {
    let prefix = &cluster.prefix;
    let meta = entries.iter().find(|entry| entry.key == Key::Meta);
    let meta = match meta.and_then(|entry| entry.record.as_ref()) {
        Some(Record::Meta(meta)) => meta,
        None if entries.is_empty() => {
            return diagnosis.ok(format!(
                "[cluster] {prefix}/ is empty; the first replica that joins writes {prefix}/meta"
            ));
        }
        None => {
            return diagnosis.error(format!(
                "[cluster] {prefix}/ has keys, but no {prefix}/meta: restore it from a backup, or \
                 choose another `prefix`"
            ));
        }
        Some(record) => {
            let reason = match record {
                Record::Unreadable(reason) => reason,
                _ => "it is another record",
            };
            return diagnosis.error(format!(
                "[cluster] {prefix}/meta cannot be read: {reason}; upgrade tokenkeep on this \
                 machine, or choose another `prefix` if another program uses this one"
            ));
        }
    };
    if meta.format > FORMAT {
        return diagnosis.error(format!(
            "[cluster] {prefix}/meta has format {}, and this version of tokenkeep writes {FORMAT}: \
             upgrade it on this machine",
            meta.format
        ));
    }
    if let Some(keys) = keys {
        report_keys(cluster, keys, meta, entries, diagnosis);
    }
    report_members(cluster, meta, entries, diagnosis);
}

/// Reports whether this replica can open what the others have sealed.
fn report_keys(
    cluster: &Cluster,
    keys: &Keys,
    meta: &Meta,
    entries: &[Entry],
    diagnosis: &Diagnosis,
) {
    let ids = keys.ids();
    for KeyId(id) in ids.iter().chain([&meta.key]) {
        diagnosis.publish(format!("{id:016x}"));
    }
    if !ids.contains(&meta.key) {
        return diagnosis.error(format!(
            "[cluster] the values in etcd are encrypted with the key {:016x}, which is neither \
             `key` nor `old_key` here: give this replica the key of the others",
            meta.key.0
        ));
    }
    let (mut values, mut old, mut errors) = (0, 0, Vec::new());
    for Entry { key, record, .. } in entries {
        let Some(Record::Value(sealed)) = record else { continue };
        values += 1;
        old += usize::from(key_of(sealed).ok().as_ref() == ids.get(1));
        errors.extend(keys.open_value(sealed, &record::path(&cluster.prefix, key)).err());
    }
    if let Some(error) = errors.first() {
        diagnosis.error(format!(
            "[cluster] {} of {values} token values in etcd cannot be decrypted: {error}",
            errors.len()
        ));
    } else if ids.first() != Some(&meta.key) || old > 0 {
        diagnosis.warning(format!(
            "[cluster] etcd still uses `old_key`, for {old} of {values} token values: run \
             `tokenkeep cluster rekey` once all replicas have the new key"
        ));
    } else {
        let remove = if ids.len() > 1 { "; `old_key` can be removed" } else { "" };
        diagnosis.ok(format!("[cluster] `key` decrypts all {values} token values in etcd{remove}"));
    }
}

/// Reports the living replicas.
fn report_members(cluster: &Cluster, meta: &Meta, entries: &[Entry], diagnosis: &Diagnosis) {
    let mut names = Vec::new();
    for entry in entries {
        let (Key::Member(name), Some(record)) = (&entry.key, &entry.record) else { continue };
        let is_self = **name == *cluster.name;
        names.push(if is_self { format!("{name} (this name)") } else { name.to_string() });
        match record {
            Record::Member(member) if member.keys.contains(&meta.key) => {}
            Record::Member(_) => diagnosis.warning(format!(
                "[cluster] replica {name} cannot decrypt the token values in etcd: give it the key \
                 of the others"
            )),
            _ => diagnosis.warning(format!(
                "[cluster] the record of replica {name} cannot be read: it may have a later version"
            )),
        }
    }
    diagnosis.ok(match names.len() {
        0 => "[cluster] no replica runs".to_owned(),
        _ => format!("[cluster] replicas that run: {}", names.join(", ")),
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::replica::{Member, SLOTS, TokenKey};
    use crate::cluster::seal::{Plain, Refresh};
    use crate::secret::TokenValue;
    use crate::settings::load;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

    fn cluster() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        let text = "[cluster]\netcd = [\"https://h:1\"]\nname = \"a\"\nprefix = \"/p\"\n\
                    key = { file = \"/k\" }\n";
        std::fs::write(&path, text).unwrap();
        load(&path, std::iter::empty()).unwrap().settings.cluster.unwrap()
    }

    fn keys(key: &str, old_key: Option<&str>) -> Keys {
        Keys::parse(key, old_key).unwrap()
    }

    fn entry(key: Key, record: Record) -> Entry {
        Entry { key, record: Some(record), revision: 7 }
    }

    /// `meta`, a value and a member, all with this key.
    fn written(keys: &Keys, format: u32) -> Vec<Entry> {
        let id = keys.ids()[0];
        let key = Key::Value(TokenKey::new("sarus", "quotes"));
        let plain = Plain { value: TokenValue::parse("v").unwrap(), refresh: Refresh::None };
        let sealed = keys.seal(id, &plain, &record::path("/p", &key)).unwrap();
        let member = Member {
            incarnation: 1,
            format: 1,
            keys: keys.ids(),
            digests: Box::new([0; SLOTS]),
            unreachable: Vec::new(),
            wall_ms: 0,
        };
        vec![
            entry(Key::Meta, Record::Meta(Meta { format, key: id })),
            entry(key, Record::Value(sealed)),
            entry(Key::Member("b".into()), Record::Member(Arc::new(member))),
        ]
    }

    fn content(keys: &Keys, entries: &[Entry]) -> String {
        let diagnosis = Diagnosis::default();
        report_content(&cluster(), Some(keys), entries, &diagnosis);
        diagnosis.to_string()
    }

    #[test]
    fn values_of_the_same_key_are_counted_and_replicas_named() {
        let said = content(&keys(KEY, None), &written(&keys(KEY, None), FORMAT));
        assert_eq!(
            said,
            "ok: [cluster] `key` decrypts all 1 token values in etcd\n\
             ok: [cluster] replicas that run: b\n0 errors, 0 warnings\n"
        );
    }

    #[test]
    fn empty_prefix_is_no_finding() {
        let said = content(&keys(KEY, None), &[]);
        assert!(said.starts_with("ok: [cluster] /p/ is empty"), "{said}");
    }

    #[test]
    fn content_that_this_replica_cannot_use_is_an_error() {
        let own = keys(KEY, None);
        let mut without_meta = written(&own, FORMAT);
        without_meta.remove(0);
        let mut moved = written(&own, FORMAT);
        moved[1].key = Key::Value(TokenKey::new("sarus", "orders"));
        let unreadable = [entry(Key::Meta, Record::Unreadable("it is not JSON".into()))];
        for (entries, wanted) in [
            (&without_meta[..], "has keys, but no /p/meta"),
            (&written(&own, FORMAT + 1), "has format 2, and this version of tokenkeep writes 1"),
            (&written(&keys(OTHER_KEY, None), FORMAT), "neither `key` nor `old_key` here"),
            (&moved, "1 of 1 token values in etcd cannot be decrypted"),
            (&unreadable, "/p/meta cannot be read: it is not JSON; upgrade"),
        ] {
            let said = content(&own, entries);
            assert!(said.starts_with("error: [cluster] ") && said.contains(wanted), "{said}");
        }
    }

    #[test]
    fn rotation_under_way_is_a_warning_with_its_next_step() {
        let said = content(&keys(OTHER_KEY, Some(KEY)), &written(&keys(KEY, None), FORMAT));
        assert!(
            said.starts_with("warning: [cluster] etcd still uses `old_key`, for 1 of 1"),
            "{said}"
        );
        assert!(said.contains("`tokenkeep cluster rekey`"), "{said}");
        let said = content(&keys(KEY, Some(OTHER_KEY)), &written(&keys(KEY, None), FORMAT));
        assert!(said.starts_with("ok: ") && said.contains("`old_key` can be removed"), "{said}");
    }

    #[test]
    fn replica_without_the_key_of_the_values_is_a_warning() {
        let mut entries = written(&keys(KEY, None), FORMAT);
        entries[2] = written(&keys(OTHER_KEY, None), FORMAT).remove(2);
        let said = content(&keys(KEY, None), &entries);
        assert!(said.starts_with("warning: [cluster] replica b cannot decrypt"), "{said}");
    }

    #[test]
    fn endpoints_are_errors_only_if_none_can_be_used() {
        let down =
            |name: &str| EndpointState { endpoint: name.into(), state: Err("refused".into()) };
        let up = |name: &str, version: &str, cluster| EndpointState {
            endpoint: name.into(),
            state: Ok((version.into(), StoreRevision { cluster, revision: 1 })),
        };
        for (states, usable, wanted) in [
            (vec![down("a"), up("b", "3.5.1", 1)], true, "warning: [cluster] etcd at a cannot be"),
            (vec![down("a"), down("b")], false, "error: [cluster] etcd at b cannot be"),
            (
                vec![up("a", "3.4.23", 1), up("b", "3.4.23", 2)],
                true,
                "error: [cluster] a and b belong",
            ),
            (vec![up("a", "3.3.27", 1)], true, "error: [cluster] etcd at a has version 3.3.27"),
            (vec![up("a", "3.10.0", 1)], true, "ok: [cluster] etcd 3.10.0 at a responds"),
        ] {
            let diagnosis = Diagnosis::default();
            assert_eq!(report_endpoints(&states, &diagnosis), usable);
            let said = diagnosis.to_string();
            assert!(said.contains(wanted), "{wanted}\n{said}");
        }
    }
}
