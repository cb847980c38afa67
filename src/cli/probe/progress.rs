//! Progress of a probe: a line for each step, and a countdown on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use super::super::{CliError, print_text};
use crate::text::format_duration;

/// Clears the current line.
const CLEAR: &str = "\r\u{1b}[K";

/// Prints how a response is read.
pub(super) fn explain(call: &str, explanation: &str) {
    // An error of standard output shows when the result is printed.
    let _ = Progress::new().step(&format!("{call}: {explanation}"));
}

/// Prints steps on standard output, and the countdown on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal() }
    }

    /// Prints a step.
    pub(super) fn step(&self, text: &str) -> Result<(), CliError> {
        self.clear();
        print_text(&format!("{text}\n"))
    }

    /// Shows the remaining wait, on a line that the next output replaces.
    pub(super) fn waiting(&self, left: Duration) {
        self.overwrite(&format!("next query in {}", format_duration(left)));
    }

    /// Clears the countdown.
    pub(super) fn clear(&self) {
        self.overwrite("");
    }

    fn overwrite(&self, text: &str) {
        if self.is_terminal {
            let mut stderr = io::stderr().lock();
            // Errors are ignored: the countdown is not essential.
            let _ = write!(stderr, "{CLEAR}{text}").and_then(|()| stderr.flush());
        }
    }
}
