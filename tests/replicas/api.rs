//! Model of the API: sessions with a remaining life, logins, and families of refresh tokens.
//!
//! It sees every spending of every replica, so it is what judges whether two were ever at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chance::Ms;

/// Index of a session.
pub(crate) type SessionId = usize;

/// What renews a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renews {
    /// Every request.
    Query,
    /// The renewing request.
    Renew,
    /// A refresh token, which is spent, and names the next session and the next refresh token.
    Rotation,
    /// Nothing.
    Nothing,
}

/// A session token.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) token: usize,
    pub(crate) end: Ms,
    pub(crate) revoked: bool,
    /// When the last request lengthened its life.
    pub(crate) renewed: Ms,
}

/// A refresh token: its family, and how many were spent before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refresh {
    pub(crate) family: usize,
    pub(crate) number: u32,
}

/// What a login or a rotation returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) session: SessionId,
    pub(crate) refresh: Option<Refresh>,
}

/// The sessions that come from one login.
#[derive(Debug, Clone)]
struct Family {
    number: u32,
    sessions: Vec<SessionId>,
    is_over: bool,
}

/// A spending that the API is executing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spending {
    pub(crate) host: usize,
    /// When it is over at the latest.
    pub(crate) ends: Ms,
}

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) renews: Renews,
    /// A login ends the session before it.
    pub(crate) single_session: bool,
    lives: Vec<Ms>,
    pub(crate) sessions: Vec<Session>,
    families: Vec<Family>,
    /// By token: what is being executed.
    spending: BTreeMap<usize, Spending>,
    /// The newest session of each token.
    pub(crate) newest: Vec<SessionId>,
    /// Responds to nothing before this moment.
    pub(crate) down_until: Ms,
    /// Refuses logins before this moment.
    pub(crate) refuses_until: Ms,
}

/// The response to a query or a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Alive(Ms),
    Expired,
    Rejected,
}

impl Api {
    pub(crate) fn new(renews: Renews, single_session: bool, lives: Vec<Ms>) -> Self {
        let newest = vec![0; lives.len()];
        Self {
            renews,
            single_session,
            lives,
            sessions: Vec::new(),
            families: Vec::new(),
            spending: BTreeMap::new(),
            newest,
            down_until: 0,
            refuses_until: 0,
        }
    }

    pub(crate) fn life(&self, token: usize) -> Ms {
        self.lives[token]
    }

    /// Logs in.
    pub(crate) fn log_in(&mut self, token: usize, now: Ms) -> Value {
        if self.single_session {
            self.sessions.iter_mut().filter(|s| s.token == token).for_each(|s| s.revoked = true);
        }
        let session = self.new_session(token, now);
        let refresh = (self.renews == Renews::Rotation).then(|| {
            self.families.push(Family { number: 0, sessions: vec![session], is_over: false });
            Refresh { family: self.families.len() - 1, number: 0 }
        });
        Value { session, refresh }
    }

    /// Spends a refresh token. `None`: it is not valid, and its family is over.
    pub(crate) fn rotate(&mut self, token: usize, refresh: Refresh, now: Ms) -> Option<Value> {
        let family = &mut self.families[refresh.family];
        if family.is_over || family.number != refresh.number {
            family.is_over = true;
            for session in family.sessions.clone() {
                self.sessions[session].revoked = true;
            }
            return None;
        }
        family.number += 1;
        let number = family.number;
        let session = self.new_session(token, now);
        self.families[refresh.family].sessions.push(session);
        Some(Value { session, refresh: Some(Refresh { number, ..refresh }) })
    }

    fn new_session(&mut self, token: usize, now: Ms) -> SessionId {
        let end = now + self.lives[token];
        self.sessions.push(Session { token, end, revoked: false, renewed: now });
        self.newest[token] = self.sessions.len() - 1;
        self.newest[token]
    }

    /// A query, or a renewal that keeps the value.
    pub(crate) fn ask(&mut self, session: SessionId, is_renewal: bool, now: Ms) -> Answer {
        if !self.is_alive(session, now) {
            let asked = &self.sessions[session];
            return if asked.revoked { Answer::Rejected } else { Answer::Expired };
        }
        let renews = match self.renews {
            Renews::Query => true,
            Renews::Renew => is_renewal,
            Renews::Rotation | Renews::Nothing => false,
        };
        let life = self.lives[self.sessions[session].token];
        let asked = &mut self.sessions[session];
        if renews {
            (asked.end, asked.renewed) = (now + life, now);
        }
        Answer::Alive(asked.end - now)
    }

    pub(crate) fn is_alive(&self, session: SessionId, now: Ms) -> bool {
        let session = &self.sessions[session];
        !session.revoked && session.end > now
    }

    /// The API begins to execute a spending. Returns one for the same token that it is executing.
    pub(crate) fn begin(&mut self, token: usize, spending: Spending, now: Ms) -> Option<Spending> {
        let other = self.spending.insert(token, spending);
        other.filter(|other| other.ends > now)
    }

    /// The API has executed a spending, or its client has given up.
    pub(crate) fn end(&mut self, token: usize, host: usize) {
        if self.spending.get(&token).is_some_and(|spending| spending.host == host) {
            self.spending.remove(&token);
        }
    }
}

impl Value {
    /// The value as a sealed record: each sealing has a nonce of its own.
    pub(crate) fn seal(self, nonce: u64) -> Arc<[u8]> {
        let refresh = self
            .refresh
            .map_or([u64::MAX; 2], |refresh| [refresh.family as u64, u64::from(refresh.number)]);
        let [family, number] = refresh;
        let parts = [self.session as u64, family, number, nonce];
        parts.iter().flat_map(|part| part.to_le_bytes()).collect()
    }

    /// Opens a sealed record.
    pub(crate) fn open(sealed: &[u8]) -> Option<Self> {
        let part = |index: usize| {
            let bytes = sealed.get(index * 8..index * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let refresh = match (part(1)?, part(2)?) {
            (u64::MAX, _) => None,
            (family, number) => Some(Refresh {
                family: usize::try_from(family).ok()?,
                number: u32::try_from(number).ok()?,
            }),
        };
        Some(Self { session: usize::try_from(part(0)?).ok()?, refresh })
    }
}
