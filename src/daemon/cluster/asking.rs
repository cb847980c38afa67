//! Who asks: tells the replica which tokens there are, and the scheduler which of them are asked
//! about here. With a million tokens that is done in steps, as part of the main loop's backlog.

use std::collections::HashSet;
use std::time::Duration;

use crate::cluster::replica::{Replica, TokenHash, TokenKey};
use crate::daemon::tokens::{ListingChange, Tokens};
use crate::scheduler::TokenId;
use crate::time::Moment;

/// How long after the start other replicas may ask about all tokens, until it is known which ones
/// are this replica's. Without etcd it asks about everything then.
pub(super) const FIRST_VIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// Tokens that one step looks at.
const STEP: u32 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Asking {
    /// Until when no token is asked about here, as it is not known which replica asks. `None` once
    /// that is known or has taken too long.
    waits_until: Option<Moment>,
    /// The tokens of the start are listed.
    has_listed: bool,
    /// The number of the token that the walk through all tokens continues with.
    walk: Option<u32>,
    /// Another walk follows it: who asks has changed since it began.
    walks_again: bool,
    /// Tokens that are asked about here once, whichever replica asks: to verify the value that an
    /// operator has put into the source.
    checked_once: HashSet<TokenHash>,
    /// Tokens whose life is shorter than a take-over takes, for which that was reported.
    short_lives: HashSet<TokenHash>,
}

impl Asking {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            waits_until: Some(now + FIRST_VIEW_TIMEOUT),
            has_listed: false,
            walk: None,
            walks_again: false,
            checked_once: HashSet::new(),
            short_lives: HashSet::new(),
        }
    }

    /// Whether the tokens of the start are listed.
    pub(super) const fn has_listed(&self) -> bool {
        self.has_listed
    }

    /// When [`end_wait_if_due`](Self::end_wait_if_due) has something to do.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.waits_until
    }

    /// Ends the wait for the first view.
    pub(super) fn end_wait_if_due(&mut self, now: Moment, replica: &Replica) {
        let is_over = |until: &mut Moment| *until <= now || replica.has_view();
        if self.waits_until.take_if(is_over).is_some() {
            self.begin_walk();
        }
    }

    /// Other tokens than before may be asked about here. A walk that has begun ends first: changes that
    /// come more often than it takes must not keep the last tokens from being reached.
    pub(super) fn begin_walk(&mut self) {
        self.walks_again = self.walk.is_some();
        self.walk.get_or_insert(0);
    }

    pub(super) const fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// Does a little more. Returns a token that is new or has changed.
    pub(super) fn step(
        &mut self,
        replica: &mut Replica,
        tokens: &mut Tokens,
        now: Moment,
    ) -> Option<(TokenId, TokenKey)> {
        match tokens.next_listing_change() {
            Some(ListingChange::Unlisted(hash)) => replica.unlist(hash, now),
            Some(ListingChange::Changed { id, key, is_listed, was_listed }) => {
                let hash = key.hash();
                match (was_listed, is_listed) {
                    (false, true) => replica.list(hash, now),
                    (true, false) => replica.unlist(hash, now),
                    (true, true) | (false, false) => {}
                }
                let asked = self.asks(&key, is_listed, replica);
                tokens.scheduler.set_asked(id, asked, now);
                return Some((id, key));
            }
            None => {
                self.has_listed = true;
                self.walk_on(replica, tokens, now);
            }
        }
        None
    }

    fn walk_on(&mut self, replica: &Replica, tokens: &mut Tokens, now: Moment) {
        let Some(first) = self.walk else { return };
        let end = tokens.scheduler.key_limit().min(first + STEP);
        for key in first..end {
            let Some(id) = tokens.scheduler.id_of(key) else { continue };
            let Some(token) = tokens.cluster_key(id) else { continue };
            let is_listed = !tokens.scheduler.is_missing(id);
            let asked = self.asks(&token, is_listed, replica);
            tokens.scheduler.set_asked(id, asked, now);
        }
        let is_over = end >= tokens.scheduler.key_limit();
        let again = is_over && std::mem::take(&mut self.walks_again);
        self.walk = if is_over { again.then_some(0) } else { Some(end) };
    }

    /// Whether a token is asked about here. One that is not listed, because it has no value, has none
    /// to ask about: only the computed replica logs in for it.
    fn asks(&self, token: &TokenKey, is_listed: bool, replica: &Replica) -> bool {
        let is_asked = if is_listed || !replica.has_view() {
            replica.asks(token)
        } else {
            replica.is_asker(token)
        };
        self.waits_until.is_none() && (is_asked || self.checked_once.contains(&token.hash()))
    }

    /// A token is asked about here until [`end_check`](Self::end_check).
    pub(super) fn check_once(&mut self, token: TokenHash) {
        self.checked_once.insert(token);
    }

    pub(super) fn is_checked_once(&self, token: TokenHash) -> bool {
        self.checked_once.contains(&token)
    }

    /// Ends that. Returns whether it was so.
    pub(super) fn end_check(&mut self, token: TokenHash) -> bool {
        self.checked_once.remove(&token)
    }

    /// Whether it was not reported yet that the life of this token is short.
    pub(super) fn is_first_short_life(&mut self, token: TokenHash) -> bool {
        self.short_lives.insert(token)
    }
}
