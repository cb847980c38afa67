//! The terminal: its size, colors, and the alternate screen.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;

use crate::cli::{CliError, print};
use crate::text::{colors_enabled, wrap};

/// Width if standard output is not a terminal.
const DEFAULT_WIDTH: u16 = 80;

/// Minimum width of wrapped text, even on a narrow terminal.
const MIN_WIDTH: usize = 20;

/// Escape sequences for [`Terminal::paint`].
pub(in crate::cli) const RED: &str = "\x1b[31m";
pub(in crate::cli) const GREEN: &str = "\x1b[32m";
pub(in crate::cli) const YELLOW: &str = "\x1b[33m";
pub(in crate::cli) const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Properties of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Terminal {
    /// Width in columns.
    pub(in crate::cli) width: u16,
    /// Height in lines; `None` if it is not a terminal.
    pub(in crate::cli) height: Option<u16>,
    pub(in crate::cli) colour: bool,
}

impl Terminal {
    pub(in crate::cli) fn detect() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self { width: DEFAULT_WIDTH, height: None, colour: false };
        }
        let size = tcgetwinsize(&stdout).ok().filter(|size| size.ws_col > 0);
        Self {
            width: size.map_or(DEFAULT_WIDTH, |size| size.ws_col),
            height: size.map(|size| size.ws_row),
            colour: colors_enabled(),
        }
    }

    /// `text` in a style, if the terminal has colors.
    pub(in crate::cli) fn paint(self, style: &str, text: &str) -> String {
        if self.colour { format!("{style}{text}{RESET}") } else { text.to_owned() }
    }

    /// `text` wrapped to the terminal's width, with `first` characters before it and later lines
    /// indented; unchanged if standard output is not a terminal. If later lines have more room and
    /// the first has less than [`MIN_WIDTH`], the text begins on the second.
    pub(in crate::cli) fn wrap(self, text: &str, first: usize, indent: usize) -> String {
        if self.height.is_none() {
            return text.to_owned();
        }
        let room = |used| usize::from(self.width).saturating_sub(used);
        let others = room(indent).max(MIN_WIDTH);
        let first = match room(first) {
            0..MIN_WIDTH if indent < first => 0,
            room => room.max(MIN_WIDTH),
        };
        wrap(text, first, others, indent)
    }
}

/// Switches to the alternate screen and hides the cursor.
const ENTER_ALTERNATE_SCREEN: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE_ALTERNATE_SCREEN: &str = "\x1b[?25h\x1b[?1049l";

/// The alternate screen of the terminal, until it is dropped. [`draw`] draws on it.
pub(in crate::cli) struct Screen(());

impl Screen {
    pub(in crate::cli) fn enter() -> Result<Self, CliError> {
        print(ENTER_ALTERNATE_SCREEN)?;
        Ok(Self(()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone need not be restored.
        let _ = print(LEAVE_ALTERNATE_SCREEN);
    }
}

/// Draws a frame on the alternate screen.
pub(in crate::cli) fn draw(frame: &str, terminal: Terminal) -> Result<(), CliError> {
    print(&redraw(frame, terminal))
}

/// Draws a frame over the previous one. Clears only what is left of it, to avoid flicker.
fn redraw(frame: &str, terminal: Terminal) -> String {
    let rows = terminal.height.map_or(usize::MAX, usize::from).saturating_sub(1);
    let mut text = "\x1b[H".to_owned();
    for line in frame.lines().take(rows) {
        text += line;
        text += "\x1b[K\r\n";
    }
    text + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_scrolls_the_screen() {
        let terminal = Terminal { width: 80, height: Some(3), colour: false };
        assert_eq!(redraw("a\nb\nc\n", terminal), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
