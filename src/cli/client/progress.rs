//! Progress on standard error, for those who would wait without a word. Off a terminal it draws
//! nothing.

use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::interval;

use crate::cli::eprint_message;
use crate::clock;
use crate::time::Moment;

/// Before progress is shown: what is over by then needs none.
const SHOW_AFTER: Duration = Duration::from_secs(1);

/// Between two pictures while nothing else happens.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// A line that is gone when this is dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    since: Moment,
}

impl Progress {
    /// A bar of so many steps.
    pub(super) fn with_steps(steps: usize) -> Self {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        Self::new(Some(steps), "{wide_bar} {percent:>3} %")
    }

    /// Something of which only its end will be known.
    pub(super) fn waiting() -> Self {
        Self::new(None, "{spinner} still under way, for {elapsed}")
    }

    fn new(steps: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(steps, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, since: clock::now() }
    }

    /// Shows it until `work` is done.
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

    /// Tells something on a line that stays.
    pub(super) fn print(&self, text: &str) {
        self.hide(|| eprint_message(text));
    }

    /// Does something that writes to the terminal.
    pub(super) fn hide<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
