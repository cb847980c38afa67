//! Rotation of the key that seals values: names the new key in etcd, then seals all values again.
//!
//! The key comes first: a value that another replica stores meanwhile is sealed with it. Reading and
//! sealing is repeated until no value with another key is left, so that a value which changes
//! meanwhile is not missed.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Cluster, ClusterEvent};
use crate::cluster::link::{Engine as _, ReadResult};
use crate::cluster::record::path;
use crate::cluster::replica::{Key, KeyId, OperationId, Record, TokenKey};
use crate::cluster::seal::key_of;
use crate::control::{ApiError, ApiErrorKind, RekeyView};

/// Values that are being written at the same time.
const IN_FLIGHT: usize = 16;

/// How often all values are read before it is given up.
const ROUNDS: u32 = 20;

/// A rotation.
#[derive(Debug)]
pub(super) struct Rekey {
    pub(super) view: RekeyView,
    /// The new key.
    to: KeyId,
    /// The write of its id.
    naming: Option<OperationId>,
    todo: Vec<(TokenKey, u64, Arc<[u8]>)>,
    writing: HashMap<OperationId, TokenKey>,
    /// Why a value was not written in this round: it has changed, or a replica spends for it.
    failed: Option<Arc<str>>,
    rounds: u32,
}

impl Rekey {
    fn end(&mut self, error: Option<String>) {
        self.view.running = false;
        self.view.error = error;
        self.todo.clear();
        self.writing.clear();
    }
}

impl Cluster {
    /// Begins to seal all values with the configured key, unless that is under way.
    ///
    /// # Errors
    ///
    /// If etcd cannot be used, or a replica does not have the key.
    pub(crate) fn begin_rekey(&mut self) -> Result<(), ApiError> {
        if self.rekey.as_ref().is_some_and(|rekey| rekey.view.running) {
            return Ok(());
        }
        if let Some(error) = self.replica.unreachable() {
            return Err(ApiError::no_etcd("rekey", error));
        }
        let conflict = |message| Err(ApiError::new(ApiErrorKind::Conflict, message));
        if self.is_stopping || self.replica.seal_key().is_none() {
            return conflict("this replica has not joined, or is leaving".to_owned());
        }
        let Some(to) = self.keys.ids().first().copied() else {
            return conflict("there is no key".to_owned());
        };
        let lacks = |(_, keys): &(&Arc<str>, &[KeyId])| !keys.contains(&to);
        let mut members = self.replica.member_records().map(|(name, member)| (name, &*member.keys));
        if let Some((name, _)) = members.find(lacks) {
            let message = format!(
                "{name} does not have the new key {:016x}: set it there as `key`, with `old_key` \
                 beside it, and reload",
                to.0
            );
            return conflict(message);
        }
        drop(members);
        let view = RekeyView { running: true, done: 0, total: 0, error: None };
        let naming = (self.replica.seal_key() != Some(to)).then(|| self.replica.set_meta_key(to));
        let (todo, writing) = (Vec::new(), HashMap::new());
        if naming.is_none() {
            self.read_all();
        }
        self.rekey = Some(Rekey { view, to, naming, todo, writing, failed: None, rounds: 0 });
        Ok(())
    }

    fn read_all(&mut self) {
        let engine = Arc::clone(self.link.engine());
        self.work.spawn(async move { ClusterEvent::RekeyRead(engine.read().await) });
    }

    /// All keys of etcd were read.
    pub(super) fn on_rekey_read(&mut self, read: ReadResult) {
        let Some(rekey) = self.rekey.as_mut().filter(|rekey| rekey.view.running) else { return };
        let entries = match read {
            Ok((_, entries)) => entries,
            Err(error) => return rekey.end(Some(error.text().to_string())),
        };
        rekey.rounds += 1;
        let values = entries.into_iter().filter_map(|entry| match (entry.key, entry.record) {
            (Key::Value(token), Some(Record::Value(sealed))) => {
                Some((token, entry.revision, sealed))
            }
            _ => None,
        });
        let values: Vec<_> = values.collect();
        rekey.view.total = values.len();
        rekey.todo =
            values.into_iter().filter(|(_, _, it)| key_of(it).ok() != Some(rekey.to)).collect();
        rekey.view.done = rekey.view.total - rekey.todo.len();
        if rekey.todo.is_empty() {
            return rekey.end(None);
        }
        if rekey.rounds > ROUNDS {
            let error = rekey.failed.take();
            let error =
                error.as_deref().unwrap_or("values are still being sealed with the old key");
            let left = rekey.todo.len();
            return rekey.end(Some(format!("{left} values could not be encrypted: {error}")));
        }
        self.seal_next();
    }

    /// Seals and writes further values.
    fn seal_next(&mut self) {
        let Self { rekey: Some(rekey), keys, replica, settings, .. } = self else { return };
        while rekey.writing.len() < IN_FLIGHT
            && let Some((token, revision, sealed)) = rekey.todo.pop()
        {
            let path = path(&settings.prefix, &Key::Value(token.clone()));
            let again = keys
                .open_value(&sealed, &path)
                .and_then(|plain| keys.seal(rekey.to, &plain, &path));
            match again {
                Ok(sealed) => {
                    let operation = replica.rekey_value(token.clone(), revision, sealed);
                    rekey.writing.insert(operation, token);
                }
                Err(error) => {
                    let error = format!("{}: {error}", token.as_str());
                    return rekey.end(Some(error));
                }
            }
        }
    }

    /// An operation has ended. Returns whether it was one of a rotation.
    pub(super) fn on_rekey_answer(
        &mut self,
        id: OperationId,
        result: &Result<(), Arc<str>>,
    ) -> bool {
        let Some(rekey) = &mut self.rekey else { return false };
        if rekey.naming == Some(id) {
            rekey.naming = None;
            match result {
                Ok(()) => self.read_all(),
                Err(error) => rekey.end(Some(error.to_string())),
            }
            return true;
        }
        if rekey.writing.remove(&id).is_none() {
            return false;
        }
        match result {
            Ok(()) => rekey.view.done += 1,
            Err(error) => rekey.failed = Some(Arc::clone(error)),
        }
        if rekey.todo.is_empty() && rekey.writing.is_empty() {
            // Also to find what was stored meanwhile.
            self.read_all();
        } else {
            self.seal_next();
        }
        true
    }
}
