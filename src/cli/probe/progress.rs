//! What is told while an experiment goes on: a line for each step, and on a terminal the time
//! that a wait still takes.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use super::super::{CliError, print_text};
use crate::text::format_duration;

/// Back to the line's beginning, and the line gone.
const CLEAR: &str = "\r\u{1b}[K";

/// Standard output for steps, standard error for what is overwritten.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal() }
    }

    /// Tells of a step, on a line that stays.
    pub(super) fn step(&self, text: &str) -> Result<(), CliError> {
        self.clear();
        print_text(&format!("{text}\n"))
    }

    /// Tells how long a wait still takes, on a line that the next one replaces.
    pub(super) fn waiting(&self, left: Duration) {
        self.overwrite(&format!("asking again in {}", format_duration(left)));
    }

    /// Takes that line away.
    pub(super) fn clear(&self) {
        self.overwrite("");
    }

    fn overwrite(&self, text: &str) {
        if self.is_terminal {
            let mut stderr = io::stderr().lock();
            // It is a comfort: that it cannot be told is no reason to stop.
            let _ = write!(stderr, "{CLEAR}{text}").and_then(|()| stderr.flush());
        }
    }
}
