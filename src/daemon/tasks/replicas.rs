//! Tasks of a replica in a cluster: spendings that the cluster has granted, and values that another
//! replica has obtained.
//!
//! A daemon alone runs none of them.

use std::time::Duration;

use super::Completion;
use super::companion::CompanionAccess;
use crate::clock;
use crate::cluster::replica::TokenKey;
use crate::cluster::seal::Refresh;
use crate::secret::TokenValue;
use crate::store::WriteReceipt;
use crate::time::Moment;
use crate::token_source::DISK_TIMEOUT;

/// How long a granted spending waits for the mark of its beginning to become durable.
const MARK_TIMEOUT: Duration = Duration::from_secs(2);

/// The permission to spend: in a cluster of replicas, a claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant {
    /// The latest moment for the spending to begin.
    pub(crate) begin_by: Moment,
}

impl Grant {
    /// Whether the spending must not begin any more.
    pub(super) fn is_over(self) -> bool {
        clock::now() > self.begin_by
    }
}

/// The refresh token of a token after a spending.
#[derive(Debug)]
pub(crate) struct RefreshState {
    /// The one that counts.
    pub(crate) current: Refresh,
    /// It is another one than before the spending.
    pub(crate) is_new: bool,
}

/// A value that another replica has obtained.
#[derive(Debug)]
pub(crate) struct AdoptedValue {
    /// Its token.
    pub(crate) key: TokenKey,
    pub(crate) value: TokenValue,
    /// Its revision in etcd.
    pub(crate) revision: u64,
}

/// Which refresh token counts if that of another replica differs from the own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnRefresh {
    /// That of the other replica.
    IsOlder,
    /// The own one, if there is one: a spending here has obtained it, and it is not in etcd yet.
    IsNewer,
}

/// What became of the refresh token of another replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdoptedRefresh {
    /// It is stored, or kept in memory, or refused.
    Stored,
    /// The own one is newer, and stays.
    OwnKept,
    /// The own one cannot be read, so whether it is newer is unknown.
    Unread(Option<TokenValue>),
}

/// Executes a granted spending. Its result comes with the refresh token that counts then, for the
/// other replicas. It begins once `marked` is durable; if that takes long, the store reports it.
pub(super) async fn granted<F: Future<Output = Completion>>(
    access: Option<CompanionAccess>,
    marked: Option<WriteReceipt>,
    spend: impl FnOnce() -> F,
) -> Completion {
    if let Some(marked) = marked {
        marked.settled_within(MARK_TIMEOUT).await;
    }
    let before = counting(access.as_ref()).await;
    let completion = spend().await;
    if matches!(completion, Completion::NotBegun(_)) {
        return completion;
    }
    let current = counting(access.as_ref()).await;
    let is_new = current != before && current != Refresh::Unknown;
    Completion::Spent(Box::new(completion), RefreshState { current, is_new })
}

/// The refresh token that counts.
async fn counting(access: Option<&CompanionAccess>) -> Refresh {
    let Some(access) = access else { return Refresh::Unknown };
    let mut held = access.hold().await;
    match held.current() {
        Ok(_) => held.state().counting(),
        Err(_) => Refresh::Unknown,
    }
}

/// Stores the refresh token that came with the value of another replica, unless the own one is
/// newer. The previous one was spent there, or its session has ended.
pub(super) async fn adopt(
    access: CompanionAccess,
    (refresh, own): (Option<TokenValue>, OwnRefresh),
    adopted: AdoptedValue,
) -> Completion {
    let done = |report, refresh| {
        Completion::Companion(report, Some(Box::new(Completion::Adopted(adopted, refresh))))
    };
    let mut held = access.hold().await;
    let read = access.read(&mut held).await;
    if own == OwnRefresh::IsNewer {
        match held.current() {
            Ok(Some(current)) if Some(&current) != refresh.as_ref() => {
                return done(None, AdoptedRefresh::OwnKept);
            }
            Ok(None) if read.is_err() => return done(None, AdoptedRefresh::Unread(refresh)),
            Ok(_) | Err(_) => {}
        }
    }
    let is_foreign = refresh.as_ref().is_some_and(|refresh| held.owner_of(refresh).is_some());
    let mut report = None;
    if !is_foreign {
        held.begin_session(refresh);
        report = access.store(&mut held, DISK_TIMEOUT).await;
        held.state().take_news();
    }
    done(report, AdoptedRefresh::Stored)
}

#[cfg(test)]
mod tests {
    use super::super::KeyedLocks;
    use super::*;
    use crate::daemon::companions::{CompanionSource, Companions};

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    /// Access to the refresh token of a token in an inventory.
    fn access_to_line(text: &str) -> (Companions, CompanionAccess) {
        let mut companions = Companions::default();
        companions.set_source("a", CompanionSource::Line(value(text)));
        let companion = companions.of("a").unwrap();
        (companions, CompanionAccess::new(companion, &mut KeyedLocks::default()))
    }

    #[tokio::test]
    async fn refresh_token_that_etcd_has_not_got_yet_is_not_replaced_by_an_older_one() {
        for (own, counts) in [(OwnRefresh::IsNewer, "r-2"), (OwnRefresh::IsOlder, "r-1")] {
            let (_companions, access) = access_to_line("r-2");
            let key = crate::cluster::replica::TokenKey::new("sarus", "a");
            let adopted = AdoptedValue { key, value: value("a-1"), revision: 7 };
            let ended = adopt(access.clone(), (Some(value("r-1")), own), adopted).await;
            let Completion::Companion(_, Some(done)) = ended else { panic!("no result") };
            let Completion::Adopted(_, became) = *done else { panic!("not adopted") };
            assert_eq!(became == AdoptedRefresh::OwnKept, own == OwnRefresh::IsNewer);
            assert_eq!(counting(Some(&access)).await, Refresh::Token(value(counts)));
        }
    }

    #[tokio::test]
    async fn refresh_token_that_was_not_read_is_unknown_and_one_that_was_spent_is_none() {
        let (_companions, access) = access_to_line("r-1");
        assert_eq!(counting(None).await, Refresh::Unknown);
        assert_eq!(counting(Some(&access)).await, Refresh::Unknown);
        drop(access.read(&mut access.hold().await).await);
        assert_eq!(counting(Some(&access)).await, Refresh::Token(value("r-1")));
        access.hold().await.replace(Some(&value("r-1")), None);
        assert_eq!(counting(Some(&access)).await, Refresh::None);
    }
}
