//! What the page shows of all tokens, gathered a slice at a time: between two slices the loop
//! does what is due, so that no check is late because somebody watches.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Daemon;
use super::survey::{Rank, SLICE, rank};
use super::views::{counted, level};
use crate::control::page::{Frame, MOST_ROWS, Note, Row, ServerCounts};
use crate::control::{Counts, Reply};
use crate::keeper::{Census, TokenId};
use crate::lifecycle::State;

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
        /// By the servers' numbers.
        servers: Vec<Census>,
    },
    /// Writing their rows.
    Writing {
        /// The keys without a row so far, the highest first.
        keys: Vec<u32>,
        rows: Vec<Row>,
        servers: Vec<Census>,
    },
}

impl Look {
    /// A look that is to begin.
    pub(super) fn new(names: bool, reply: Reply<Frame>) -> Self {
        let stage = Stage::Finding { next: 0, worst: BinaryHeap::new(), servers: Vec::new() };
        Self { names, reply, stage }
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
            Stage::Finding { next, worst, servers } => self.find(next, worst, servers),
            Stage::Writing { mut keys, mut rows, servers } => {
                let now = keys.split_off(keys.len().saturating_sub(ROWS));
                rows.extend(now.iter().rev().filter_map(|key| self.row(*key, names)));
                if keys.is_empty() {
                    // Whoever asked may have gone.
                    let _ = reply.send(Ok(self.frame(rows, &servers, names)));
                    return;
                }
                Stage::Writing { keys, rows, servers }
            }
        };
        self.control.look = Some(Look { names, reply, stage });
    }

    fn find(&self, next: u32, mut worst: BinaryHeap<Rank>, mut servers: Vec<Census>) -> Stage {
        let end = next.saturating_add(SLICE).min(self.keeper.keys());
        for id in (next..end).filter_map(|key| self.keeper.id_of(key)) {
            let Some((token, spec)) = self.keeper.token(id).zip(self.keeper.spec(id)) else {
                continue;
            };
            let state = token.state();
            let server = spec.server.index();
            if servers.len() <= server {
                servers.resize_with(server + 1, Census::default);
            }
            *servers[server].of_mut(state) += 1;
            let rank = rank(state, token, id);
            if worst.len() < MOST_ROWS || worst.peek().is_some_and(|best| rank < *best) {
                worst.push(rank);
            }
            if worst.len() > MOST_ROWS {
                worst.pop();
            }
        }
        if end < self.keeper.keys() {
            return Stage::Finding { next: end, worst, servers };
        }
        let mut keys: Vec<_> = worst.into_iter().map(|(.., key)| key).collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        Stage::Writing { rows: Vec::with_capacity(keys.len()), keys, servers }
    }

    fn row(&self, key: u32, names: bool) -> Option<Row> {
        let id: TokenId = self.keeper.id_of(key)?;
        let (token, kept) = (self.keeper.token(id)?, self.roster.token(id)?);
        Some(Row {
            id: key,
            name: names.then(|| Arc::from(&*kept.name)),
            server: kept.terms.server.index(),
            state: token.state().as_str(),
            until: token.bound(),
            life_ms: Some(token.life_ms()).filter(|life| *life > 0),
            next_check: self.keeper.next_check(id),
        })
    }

    fn frame(&self, rows: Vec<Row>, servers: &[Census], names: bool) -> Frame {
        let states = self.counts();
        let rest = states.total.saturating_sub(rows.len());
        let next_check = self.keeper.next_wake();
        Frame {
            rows,
            rest,
            states,
            servers: self.server_counts(servers),
            next_check,
            notes: self.notes(names),
        }
    }

    fn server_counts(&self, servers: &[Census]) -> Vec<ServerCounts> {
        let mut remotes: Vec<_> = self.roster.remotes().collect();
        remotes.sort_unstable_by_key(|(id, _)| *id);
        let told = remotes.into_iter().map(|(id, remote)| ServerCounts {
            name: remote.settings.name.as_str().into(),
            down: !self.keeper.is_available(id),
            states: servers.get(id.index()).map(sum).unwrap_or_default(),
        });
        told.collect()
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

fn sum(census: &Census) -> Counts {
    counted(census, State::ALL.iter().map(|state| census.of(*state)).sum())
}
