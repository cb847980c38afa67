//! What is known of one refresh token, and the rule which one counts. Pure.
//!
//! The source counts, unless it holds a refresh token that is known to be spent: then its successor
//! counts, which is kept in memory, and in the state database if the source cannot store it. So a
//! new refresh token in the source wins, and an old copy that a backup or a deployment puts there
//! does not.

use std::collections::VecDeque;

use crate::cluster::seal::Refresh;
use crate::secret::TokenValue;
use crate::store::StoredCompanion;

/// Spent refresh tokens that are remembered: an older copy is hardly put back.
const REMEMBERED: usize = 16;

/// What is known of the refresh token of one token.
#[derive(Debug, Default)]
pub(crate) struct CompanionState {
    /// What the source held when it was last read.
    in_source: Option<(u64, TokenValue)>,
    successor: Option<Successor>,
    /// Fingerprints of spent refresh tokens, oldest first.
    spent: VecDeque<u64>,
    /// The last refresh token that the server has refused.
    refused: Option<u64>,
    /// There may be a row in the database.
    has_row: bool,
    /// Whether the source has shown an unknown refresh token, which was not reported. `None`: it was
    /// not read yet.
    has_news: Option<bool>,
    /// The last read of the source has hung.
    hangs: bool,
    /// A warning about the source was reported.
    is_warned: bool,
    /// The last error of storing it that was reported.
    reported: Option<String>,
}

/// What the last spent refresh token was replaced by.
#[derive(Debug)]
struct Successor {
    /// `None`: there is none, and the spent one must not be sent.
    value: Option<(u64, TokenValue)>,
    /// What the source held then.
    replaces: Option<TokenValue>,
    place: Place,
}

/// Where a successor is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nowhere yet.
    Memory,
    Database,
    Source,
}

/// The refresh token belongs to another token, and is not sent.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) owner: Box<str>,
    /// The other token was removed, and its last renewal has not ended.
    pub(crate) is_passing: bool,
}

impl CompanionState {
    /// The refresh token that counts.
    pub(super) fn current(&self) -> Option<&TokenValue> {
        match &self.in_source {
            Some((fingerprint, value)) if !self.spent.contains(fingerprint) => Some(value),
            Some(_) | None => {
                let (_, value) = self.successor.as_ref()?.value.as_ref()?;
                Some(value)
            }
        }
    }

    /// The refresh token that counts, for the other replicas of a cluster.
    pub(crate) fn counting(&self) -> Refresh {
        match self.current() {
            Some(refresh) => Refresh::Token(refresh.clone()),
            None if self.in_source.is_some() || self.successor.is_some() => Refresh::None,
            // The source was not read, or holds nothing usable at the moment.
            None => Refresh::Unknown,
        }
    }

    /// What the source held when it was last read.
    pub(crate) fn in_source(&self) -> Option<&TokenValue> {
        self.in_source.as_ref().map(|(_, value)| value)
    }

    /// Whether the source was read at least once, or has hung.
    pub(crate) const fn was_read(&self) -> bool {
        self.has_news.is_some() || self.hangs
    }

    /// Whether the last read of the source has hung.
    pub(crate) const fn hangs(&self) -> bool {
        self.hangs
    }

    /// A read of the source has hung, or it may respond again.
    pub(crate) const fn set_hangs(&mut self, hangs: bool) {
        self.hangs = hangs;
    }

    /// The fingerprint of the refresh token that counts; otherwise of what the source holds.
    pub(super) fn candidate(&self) -> Option<u64> {
        let in_source = self.in_source.as_ref().map(|(fingerprint, _)| *fingerprint);
        if in_source.is_some_and(|it| !self.spent.contains(&it)) {
            return in_source;
        }
        let successor = self.successor.as_ref().and_then(|it| it.value.as_ref());
        successor.map(|(fingerprint, _)| *fingerprint).or(in_source)
    }

    /// Whether this token has spent the refresh token that another one's source holds.
    pub(super) fn has_spent(&self, other: &Self) -> bool {
        other.in_source.as_ref().is_some_and(|(fingerprint, _)| self.spent.contains(fingerprint))
    }

    /// Another token has spent what the source holds.
    pub(super) fn void_source(&mut self) {
        if !self.is_source_spent() {
            self.replace(None, None);
        }
    }

    /// Whether the source holds a refresh token that is known to be spent.
    pub(crate) fn is_source_spent(&self) -> bool {
        self.in_source.as_ref().is_some_and(|(fingerprint, _)| self.spent.contains(fingerprint))
    }

    /// All known refresh tokens.
    pub(super) fn fingerprints(&self) -> Vec<u64> {
        let successor = self.successor.as_ref().and_then(|successor| successor.value.as_ref());
        let values = [self.in_source.as_ref(), successor].into_iter().flatten();
        values.map(|(fingerprint, _)| *fingerprint).chain(self.spent.iter().copied()).collect()
    }

    /// Takes over a row of an earlier run.
    pub(super) fn restore(
        &mut self,
        stored: StoredCompanion,
        fingerprint: impl Fn(&TokenValue) -> u64,
    ) {
        let StoredCompanion { value, replaces } = stored;
        self.spent.extend(replaces.as_ref().map(&fingerprint));
        let value = value.map(|value| (fingerprint(&value), value));
        self.successor = Some(Successor { value, replaces, place: Place::Database });
        self.has_row = true;
    }

    /// Takes over what is known of the same refresh token under another name.
    pub(super) fn inherit(&mut self, old: &mut Self) {
        if self.successor().is_none() && old.successor.is_some() {
            self.successor = old.successor.take();
        }
        self.spent.extend(old.spent.iter().copied());
        self.forget_oldest();
    }

    /// The source was read, and holds this.
    pub(super) fn set_in_source(&mut self, in_source: Option<(u64, TokenValue)>) {
        let is_unknown =
            |(fingerprint, _): &(u64, TokenValue)| !self.fingerprints().contains(fingerprint);
        let is_new = in_source.as_ref().is_some_and(is_unknown);
        self.has_news = Some(self.has_news.is_some_and(|has_news| has_news || is_new));
        self.in_source = in_source;
        let is_spent = self.is_source_spent();
        if let Some(successor) = self.successor.as_mut().filter(|_| is_spent)
            && successor.value.is_some()
        {
            // An old copy was put back: after a restart it must not count.
            let replaces = self.in_source.as_ref().map(|(_, value)| value);
            if successor.place == Place::Source || successor.replaces.as_ref() != replaces {
                successor.replaces = replaces.cloned();
                successor.place = Place::Memory;
            }
        }
    }

    /// Whether the source has shown a refresh token that was not known, since this was last asked.
    /// The first one that it shows is no news.
    pub(crate) const fn take_news(&mut self) -> bool {
        if let Some(has_news) = &mut self.has_news {
            return std::mem::replace(has_news, false);
        }
        false
    }

    /// Whether [`take_news`](Self::take_news) has something to report.
    pub(super) fn has_news(&self) -> bool {
        self.has_news == Some(true)
    }

    /// Forgets a successor that the source supersedes. Returns whether it may have a row.
    pub(super) fn drop_superseded(&mut self) -> bool {
        if self.in_source.is_none() || self.is_source_spent() {
            return false;
        }
        if self.successor().is_none_or(|successor| self.in_source() != Some(successor)) {
            self.successor = None;
        }
        std::mem::take(&mut self.has_row)
    }

    /// `sent` was spent, and so was what the source holds; `new` counts now, if any. Returns spent
    /// ones that are forgotten.
    pub(super) fn replace(
        &mut self,
        sent: Option<u64>,
        new: Option<(u64, TokenValue)>,
    ) -> Vec<u64> {
        let before = self.successor.take();
        let earlier = before.and_then(|before| before.replaces);
        // A source that cannot be read at the moment may show its old content again.
        let replaces = self.in_source().cloned().or(earlier);
        let in_source = self.in_source.as_ref().map(|(fingerprint, _)| *fingerprint);
        for spent in [in_source, sent].into_iter().flatten() {
            if !self.spent.contains(&spent) {
                self.spent.push_back(spent);
            }
        }
        self.successor = Some(Successor { value: new, replaces, place: Place::Memory });
        self.forget_oldest()
    }

    fn forget_oldest(&mut self) -> Vec<u64> {
        let surplus = self.spent.len().saturating_sub(REMEMBERED);
        let in_source = self.in_source.as_ref().map(|(fingerprint, _)| *fingerprint);
        let (kept, dropped) =
            self.spent.drain(..surplus).partition::<Vec<_>, _>(|it| Some(*it) == in_source);
        for fingerprint in kept {
            self.spent.push_back(fingerprint);
        }
        dropped
    }

    /// The row that keeps the successor; `None` if there is none.
    pub(crate) fn row(&self) -> Option<StoredCompanion> {
        let Successor { value, replaces, .. } = self.successor.as_ref()?;
        let value = value.as_ref().map(|(_, value)| value.clone());
        Some(StoredCompanion { value, replaces: replaces.clone() })
    }

    /// Whether the successor is in the database.
    pub(super) fn is_row(&self) -> bool {
        self.successor.as_ref().is_some_and(|it| it.place == Place::Database)
    }

    /// The successor of the last spent refresh token.
    pub(crate) fn successor(&self) -> Option<&TokenValue> {
        self.successor.as_ref()?.value.as_ref().map(|(_, value)| value)
    }

    /// Whether there is a successor that the source does not hold.
    pub(super) fn has_successor(&self) -> bool {
        self.successor.as_ref().is_some_and(|successor| successor.place != Place::Source)
    }

    /// Whether it is not durable yet that a refresh token was spent.
    pub(crate) fn is_changed(&self) -> bool {
        self.successor.as_ref().is_some_and(|it| it.place == Place::Memory)
    }

    /// Whether a successor is in memory only.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.is_changed() && self.successor().is_some()
    }

    /// The successor is in the source. Returns whether it may have a row that is obsolete.
    pub(super) fn is_in_source(&mut self) -> bool {
        self.reported = None;
        if let Some(successor) = &mut self.successor {
            successor.place = Place::Source;
            self.in_source.clone_from(&successor.value);
        }
        std::mem::take(&mut self.has_row)
    }

    /// The successor is in the database.
    pub(crate) fn is_in_database(&mut self) {
        if let Some(successor) = &mut self.successor {
            successor.place = Place::Database;
        }
    }

    /// A row was handed to the database.
    pub(super) const fn may_have_row(&mut self) {
        self.has_row = true;
    }

    /// Whether there are warnings about the source. Returns whether there were.
    pub(crate) const fn set_warned(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.is_warned, on)
    }

    /// An error of storing the successor is to be reported. Returns whether it is another one than
    /// the last.
    pub(crate) fn report(&mut self, error: &str) -> bool {
        let is_new = self.reported.as_deref() != Some(error);
        self.reported = Some(error.to_owned());
        is_new
    }

    /// The server refused this one. Returns whether that is news.
    pub(super) fn refuse(&mut self, sent: u64) -> bool {
        self.refused.replace(sent) != Some(sent)
    }

    /// Whether the server has refused the one that counts.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some() && self.current().is_some() && self.candidate() == self.refused
    }
}
