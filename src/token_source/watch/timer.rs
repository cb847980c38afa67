//! A delay that may be running.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Runs at most one delay at a time.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Starts the delay, unless one is running.
    pub(super) fn start(&mut self, delay: Duration) {
        self.0.get_or_insert_with(|| Box::pin(sleep(delay)));
    }

    /// Completes when the delay has passed, and clears the timer; never completes if none is
    /// running. Cancel-safe.
    pub(super) async fn expired(&mut self) {
        match &mut self.0 {
            Some(delay) => delay.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}
