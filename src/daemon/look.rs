//! What the page shows of all tokens, gathered a slice at a time: between two slices the loop
//! does what is due, so that no check is late because somebody watches.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Daemon;
use super::survey::{Rank, SLICE, rank};
use super::views::{counted, level};
use crate::control::Reply;
use crate::control::page::{Frame, MOST_ROWS, Note, Row, ServerCounts};

/// Rows that are written at once: each has a name to be copied.
const ROWS: usize = 1_024;

/// Events that are shown: more than fit on a screen.
const NOTES: usize = 100;

/// One look.
#[derive(Debug)]
pub(super) struct Look {
    names: bool,
    reply: Reply<Frame>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Finding the tokens that are shown.
    Finding {
        /// The first key that was not looked at.
        next: u32,
        /// The worst so far; the best of them is the first to go.
        worst: BinaryHeap<Rank>,
    },
    /// Writing their rows.
    Writing {
        /// The keys without a row so far, the highest first.
        keys: Vec<u32>,
        rows: Vec<Row>,
    },
}

impl Look {
    /// A look that is to begin.
    pub(super) fn new(names: bool, reply: Reply<Frame>) -> Self {
        Self { names, reply, stage: Stage::Finding { next: 0, worst: BinaryHeap::new() } }
    }
}

impl Daemon {
    /// Goes on with the look under way.
    pub(super) fn go_on_looking(&mut self) {
        let Some(Look { names, reply, stage }) = self.control.look.take() else { return };
        if reply.is_closed() {
            return;
        }
        let stage = match stage {
            Stage::Finding { next, worst } => self.find(next, worst),
            Stage::Writing { mut keys, mut rows } => {
                let now = keys.split_off(keys.len().saturating_sub(ROWS));
                rows.extend(now.iter().rev().filter_map(|key| self.row(*key, names)));
                if keys.is_empty() {
                    // Whoever asked may have gone.
                    let _ = reply.send(Ok(self.frame(rows, names)));
                    return;
                }
                Stage::Writing { keys, rows }
            }
        };
        self.control.look = Some(Look { names, reply, stage });
    }

    fn find(&self, next: u32, mut worst: BinaryHeap<Rank>) -> Stage {
        let end = next.saturating_add(SLICE).min(self.keeper.numbers());
        for id in (next..end).filter_map(|key| self.keeper.id_of(key)) {
            let Some(token) = self.keeper.token(id) else { continue };
            let rank = rank(token.state(), &token, id);
            if worst.len() < MOST_ROWS || worst.peek().is_some_and(|best| rank < *best) {
                worst.push(rank);
            }
            if worst.len() > MOST_ROWS {
                worst.pop();
            }
        }
        if end < self.keeper.numbers() {
            return Stage::Finding { next: end, worst };
        }
        let mut keys: Vec<_> = worst.into_iter().map(|(.., key)| key).collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        Stage::Writing { rows: Vec::with_capacity(keys.len()), keys }
    }

    fn row(&self, key: u32, names: bool) -> Option<Row> {
        let id = self.keeper.id_of(key)?;
        let (token, kept) = (self.keeper.token(id)?, self.roster.token(id)?);
        Some(Row {
            id: key,
            name: names.then(|| Arc::from(kept.name())),
            server: kept.terms().server.index(),
            state: token.state().as_str(),
            until: token.bound(),
            life_ms: Some(token.life_ms()).filter(|life| *life > 0),
            next_check: self.keeper.next_check(id),
        })
    }

    fn frame(&self, rows: Vec<Row>, names: bool) -> Frame {
        let states = self.counts();
        let rest = states.total.saturating_sub(rows.len());
        let next_check = self.keeper.next_wake();
        Frame {
            rows,
            rest,
            states,
            servers: self.server_counts(),
            next_check,
            notes: self.notes(names),
        }
    }

    /// The servers by their numbers, as rows refer to them; without a name where one is gone.
    fn server_counts(&self) -> Vec<ServerCounts> {
        let mut told = Vec::new();
        for server in &self.settings.servers {
            let Some(id) = self.roster.server_of(&server.name) else { continue };
            if told.len() <= id.index() {
                told.resize_with(id.index() + 1, ServerCounts::default);
            }
            let census = self.keeper.census_of(id);
            told[id.index()] = ServerCounts {
                name: server.name.as_str().into(),
                down: !self.keeper.is_available(id),
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
