//! What the page shows of all tokens: the worst of them, and how the others are.

use std::sync::Arc;

use crate::control::Reply;
use crate::control::page::{Frame, MOST_ROWS, Note, Row, ServerCounts};
use crate::daemon::Daemon;
use crate::daemon::queries::top_k::{TopK, rank};
use crate::daemon::queries::views::{counted, level};
use crate::lifecycle::Glance;

/// Rows that are written at once: each has a name to be copied.
const ROWS: usize = 1_024;

/// Events that are shown: more than fit on a screen.
const NOTES: usize = 100;

/// One look.
#[derive(Debug)]
pub(crate) struct DashboardQuery {
    names: bool,
    reply: Reply<Frame>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Finding the tokens that are shown.
    Finding(TopK),
    /// Writing their rows.
    Writing {
        /// The keys without a row so far, the highest first.
        keys: Vec<u32>,
        rows: Vec<Row>,
    },
}

impl DashboardQuery {
    /// A look that is to begin.
    pub(crate) const fn begin(names: bool, reply: Reply<Frame>) -> Self {
        Self { names, reply, stage: Stage::Finding(TopK::new(MOST_ROWS)) }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    pub(crate) fn see(&mut self, glance: Glance, key: u32) {
        if let Stage::Finding(worst) = &mut self.stage {
            worst.see(rank(glance, key));
        }
    }
}

impl Daemon {
    /// Shows what was found, or writes a part of it down and gives back the rest.
    pub(crate) fn conclude_picture(&self, picture: DashboardQuery) -> Option<DashboardQuery> {
        let DashboardQuery { names, reply, stage } = picture;
        let (mut keys, mut rows) = match stage {
            Stage::Finding(worst) => {
                let mut keys: Vec<_> = worst.found().into_iter().map(|(.., key)| key).collect();
                keys.sort_unstable_by(|a, b| b.cmp(a));
                let rows = Vec::with_capacity(keys.len());
                return Some(DashboardQuery { names, reply, stage: Stage::Writing { keys, rows } });
            }
            Stage::Writing { keys, rows } => (keys, rows),
        };
        let now = keys.split_off(keys.len().saturating_sub(ROWS));
        rows.extend(now.iter().rev().filter_map(|key| self.row(*key, names)));
        if !keys.is_empty() {
            return Some(DashboardQuery { names, reply, stage: Stage::Writing { keys, rows } });
        }
        // Whoever asked may have gone.
        let _ = reply.send(Ok(self.frame(rows, names)));
        None
    }

    fn row(&self, key: u32, names: bool) -> Option<Row> {
        let id = self.tokens.scheduler.id_of(key)?;
        let (token, kept) = (self.tokens.scheduler.token(id)?, self.tokens.registry.token(id)?);
        Some(Row {
            id: key,
            name: names.then(|| Arc::from(kept.name())),
            server: kept.terms().server.index(),
            state: token.state().as_str(),
            until: token.bound(),
            life_ms: Some(token.life_ms()).filter(|life| *life > 0),
            next_check: self.tokens.scheduler.next_check(id),
        })
    }

    fn frame(&self, rows: Vec<Row>, names: bool) -> Frame {
        let states = self.counts();
        let rest = states.total.saturating_sub(rows.len());
        let next_check = self.tokens.scheduler.next_wake();
        Frame {
            rows,
            rest,
            states,
            servers: self.server_counts(),
            next_check,
            notes: self.notes(names),
            config_rejected: self.config_rejected.as_ref().map(|rejection| rejection.at),
        }
    }

    /// The servers by their numbers, as rows refer to them; without a name where one is gone.
    fn server_counts(&self) -> Vec<ServerCounts> {
        let mut told = Vec::new();
        for server in &self.settings.servers {
            let Some(id) = self.tokens.registry.server_of(&server.name) else { continue };
            if told.len() <= id.index() {
                told.resize_with(id.index() + 1, ServerCounts::default);
            }
            let census = self.tokens.scheduler.census_of(id);
            told[id.index()] = ServerCounts {
                name: server.name.as_str().into(),
                down: !self.is_available(id),
                states: counted(&census),
            };
        }
        told
    }

    fn notes(&self, names: bool) -> Vec<Note> {
        let latest = self.journal.ring().latest(NOTES);
        let notes = latest.map(|(seq, event)| Note {
            seq,
            at_ms: event.at.as_millisecond(),
            event: event.name.as_str(),
            level: level(event.severity),
            token: (names && !event.token.is_empty()).then(|| Arc::from(&*event.token)),
            server: event.server.as_deref().map(Arc::from),
        });
        notes.collect()
    }
}
