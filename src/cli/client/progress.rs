//! Progress bar on standard error. Draws nothing if standard error is not a terminal.

use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::interval;

use crate::cli::eprint_message;
use crate::clock;
use crate::time::Moment;

/// Delay before the bar is shown, so that quick commands show none.
const SHOW_AFTER: Duration = Duration::from_secs(1);

/// Redraw interval while waiting.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// A progress bar, which is cleared when dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    since: Moment,
}

impl Progress {
    /// A bar with this number of steps.
    pub(super) fn with_steps(steps: usize) -> Self {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        Self::new(Some(steps), "{wide_bar} {percent:>3} %")
    }

    /// A spinner, for a wait of unknown length.
    pub(super) fn waiting() -> Self {
        Self::new(None, "{spinner} in progress for {elapsed}")
    }

    fn new(steps: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(steps, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, since: clock::now() }
    }

    /// Redraws the bar until `work` is done.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut pace = interval(REDRAW_INTERVAL);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = pace.tick() => self.show(),
            }
        }
    }

    pub(super) fn step(&self) {
        self.bar.inc(1);
        self.show();
    }

    fn show(&self) {
        if clock::now().since(self.since) >= SHOW_AFTER {
            if self.bar.is_hidden() {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            self.bar.tick();
        }
    }

    /// Prints a message above the bar.
    pub(super) fn print(&self, text: &str) {
        self.hide(|| eprint_message(text));
    }

    /// Hides the bar while `work` writes to the terminal.
    pub(super) fn hide<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
