//! One look at the daemon a second for all who watch, and none while nobody does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::Frame;

/// Between two looks: what the page shows in between runs down by itself.
const PACE: Duration = Duration::from_secs(1);

/// Hands what the daemon shows to everybody who watches.
#[derive(Debug)]
pub(in crate::control) struct Feed {
    frames: watch::Sender<Option<Arc<Frame>>>,
    wanted: Notify,
}

impl Feed {
    /// A feed that nobody watches yet.
    pub(in crate::control) fn new() -> Self {
        Self { frames: watch::Sender::new(None), wanted: Notify::new() }
    }

    /// Watches from now on, until what is returned is dropped.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Frame>>> {
        let frames = self.frames.subscribe();
        self.wanted.notify_one();
        frames
    }

    /// Looks by `look` once a second while anybody watches. Ends when `look` finds nobody to
    /// ask any longer.
    pub(in crate::control) async fn produce<L>(&self, mut look: impl FnMut() -> L)
    where
        L: Future<Output = Option<Frame>>,
    {
        loop {
            if self.frames.is_closed() {
                // What is known grows old: who comes next must not see it.
                self.frames.send_replace(None);
                self.wanted.notified().await;
                continue;
            }
            let Some(frame) = look().await else { return };
            self.frames.send_replace(Some(Arc::new(frame)));
            sleep(PACE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Lets a feed run for `seconds` of virtual time; returns how often it has looked.
    async fn looks(feed: &Feed, seconds: u64) -> usize {
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            Some(Frame::default())
        };
        let over = sleep(Duration::from_secs(seconds) + PACE / 2);
        tokio::select! {
            () = feed.produce(look) => {}
            () = over => {}
        }
        looks.get()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_while_nobody_watches() {
        assert_eq!(looks(&Feed::new(), 60).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_watch_share_one_look_a_second() {
        let feed = Feed::new();
        let watching: Vec<_> = (0..16).map(|_| feed.watch()).collect();
        assert_eq!(looks(&feed, 10).await, 11);
        drop(watching);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_a_break_does_not_see_what_was_before() {
        let feed = Feed::new();
        drop(feed.watch());
        looks(&feed, 1).await;
        let first = feed.watch();
        looks(&feed, 1).await;
        assert!(first.borrow().is_some());
        drop(first);
        looks(&feed, 2).await;
        assert!(feed.watch().borrow().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_there_is_nobody_to_ask() {
        let feed = Feed::new();
        let watching = feed.watch();
        feed.produce(async || None).await;
        assert!(watching.borrow().is_none());
    }
}
