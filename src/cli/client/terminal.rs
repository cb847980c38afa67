//! Size and color support of the terminal.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;

use crate::text::colors_enabled;

/// Width if standard output is not a terminal.
const DEFAULT_WIDTH: u16 = 80;

/// Properties of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Width in columns.
    pub(super) width: u16,
    /// Height in lines; `None` if it is not a terminal.
    pub(super) height: Option<u16>,
    pub(super) colour: bool,
}

impl Terminal {
    pub(super) fn detect() -> Self {
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
}
