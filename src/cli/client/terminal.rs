//! What is written on: its width, its height, and whether it knows colours.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;

use crate::text::colors_enabled;

/// Where nothing tells how wide lines may be: what people and scripts expect.
const DEFAULT_WIDTH: u16 = 80;

/// Standard output, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terminal {
    /// In columns.
    pub(super) width: u16,
    /// In lines; `None` where that is no matter.
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
