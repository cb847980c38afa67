//! Commands for the whole cluster: a pause holds for all replicas. The command ends with the answer
//! of etcd.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Cluster;
use super::claiming::count_of;
use crate::clock;
use crate::cluster::replica::{Count, OperationId, TokenKey};
use crate::control::{ApiError, ApiErrorKind, Caller, Reply};
use crate::daemon::notices;
use crate::daemon::tokens::Tokens;
use crate::event_log::EventLog;
use crate::lifecycle::OperatorRequest;
use crate::scheduler::TokenId;
use crate::store::Counter;
use crate::time::Moment;

/// How long a command waits for etcd: less than the maximum duration of a connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// A command of a client.
#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) name: String,
    /// [`OperatorRequest::Pause`] or [`OperatorRequest::Resume`].
    pub(crate) request: OperatorRequest,
    pub(crate) caller: Caller,
    pub(crate) reply: Reply<()>,
}

/// Commands that wait for etcd, and what is paused.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pending: HashMap<OperationId, (Pause, Moment)>,
    paused: HashSet<TokenKey>,
}

impl Answers {
    /// When the next command has waited too long.
    pub(super) fn due(&self) -> Option<Moment> {
        self.pending.values().map(|(_, until)| *until).min()
    }

    /// Answers the commands that have waited too long.
    pub(super) fn expire(&mut self, now: Moment, log: &mut EventLog) {
        let expired = self.pending.extract_if(|_, (_, until)| *until <= now);
        for (_, (pause, _)) in expired {
            let message = "etcd has not responded in time; the command may still take effect";
            pause.refuse(ApiError::new(ApiErrorKind::Unavailable, message), log);
        }
    }

    /// The daemon stops.
    pub(super) fn stop(&mut self, log: &mut EventLog) {
        self.expire(Moment::NEVER, log);
    }

    /// etcd has answered.
    pub(super) fn end(
        &mut self,
        id: OperationId,
        result: Result<(), std::sync::Arc<str>>,
        now: Moment,
        tokens: &mut Tokens,
    ) {
        let Some((pause, _)) = self.pending.remove(&id) else { return };
        match result {
            Ok(()) => {
                if let Some(token) = tokens.registry.id_of(&pause.name) {
                    let is_paused = pause.request == OperatorRequest::Pause;
                    super::set_paused(token, is_paused, now, tokens);
                }
                let action = (Some(&*pause.name), pause.request.as_str());
                notices::operator_action(&mut tokens.log, action, pause.caller, None);
                drop(pause.reply.send(Ok(())));
            }
            Err(error) => {
                let error = pause.no_etcd(&error);
                pause.refuse(error, &mut tokens.log);
            }
        }
    }

    /// A token was paused for all replicas, or resumed.
    pub(super) fn set_paused(&mut self, key: TokenKey, is_paused: bool) {
        if is_paused {
            self.paused.insert(key);
        } else {
            self.paused.remove(&key);
        }
    }

    /// Whether a token is paused for all replicas.
    pub(super) fn is_paused(&self, key: &TokenKey) -> bool {
        self.paused.contains(key)
    }
}

impl Pause {
    fn no_etcd(&self, error: &str) -> ApiError {
        ApiError::no_etcd(self.request.as_str(), error)
    }

    fn refuse(self, error: ApiError, log: &mut EventLog) {
        let action = (Some(&*self.name), self.request.as_str());
        notices::operator_action(log, action, self.caller, Some(&error));
        drop(self.reply.send(Err(error)));
    }
}

impl Cluster {
    /// Pauses or resumes a token for all replicas. The caller has the permission.
    pub(crate) fn pause(&mut self, pause: Pause, id: TokenId, tokens: &mut Tokens) {
        if let Some(error) = self.replica.unreachable() {
            let error = pause.no_etcd(error);
            return pause.refuse(error, &mut tokens.log);
        }
        let Some(key) = tokens.cluster_key(id) else { return };
        let now = clock::now();
        let is_paused = pause.request == OperatorRequest::Pause;
        let operation = self.replica.set_paused(key, is_paused, now);
        self.answers.pending.insert(operation, (pause, now + ANSWER_TIMEOUT));
    }

    /// Why a request of an operator cannot be executed here: another replica asks about the token, or
    /// it would have to wait for etcd.
    pub(crate) fn refusal(
        &self,
        id: TokenId,
        request: OperatorRequest,
        tokens: &Tokens,
    ) -> Option<ApiError> {
        let key = tokens.cluster_key(id)?;
        if let Some(other) = self.other_asker(&key) {
            return Some(ApiError::elsewhere(other));
        }
        let spends = matches!(request, OperatorRequest::Reauth | OperatorRequest::Revoke);
        let error = self.replica.unreachable().filter(|_| spends)?;
        Some(ApiError::no_etcd(request.as_str(), error))
    }
}

impl Cluster {
    /// Lowers the attempts in etcd if one does not count any more here.
    pub(super) fn refund_if_due(&mut self, id: TokenId, tokens: &Tokens) {
        if !self.counted.contains(&id) {
            return;
        }
        let Some((count, key)) = count_of(id, tokens).zip(tokens.cluster_key(id)) else { return };
        let in_etcd = self.replica.counted(key.hash());
        if count.counted < in_etcd {
            self.replica.refund(&key, count);
        } else if in_etcd == 0 {
            self.counted.remove(&id);
        }
    }

    /// Another replica has counted attempts of a token.
    pub(super) fn on_counted(&mut self, key: &TokenKey, count: Count, tokens: &mut Tokens) {
        let Count { window_end_ms, counted, in_a_row } = count;
        let count = Counter { window_end_ms, count: counted, in_a_row };
        if let Some(id) = tokens.of_cluster_key(key) {
            self.counted.insert(id);
            tokens.restore_reauth_attempts(id, &count);
        } else if let Some((_, name)) = key.names() {
            tokens.recorder.stash_count(&name, count);
        }
    }
}
