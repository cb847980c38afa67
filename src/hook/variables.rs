//! Environment variables of a command that concern a token or an event.

use std::path::Path;

use tokio::process::Command;

/// The `TOKENKEEP_` variables of a command. A variable that is `None` is not set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Variables<'a> {
    /// `TOKENKEEP_NAME`: the token's name.
    pub name: Option<&'a str>,
    /// `TOKENKEEP_SERVER`: the server's name.
    pub server: Option<&'a str>,
    /// `TOKENKEEP_URL`: the server's base URL.
    pub url: Option<&'a str>,
    /// `TOKENKEEP_REASON`: `expired`, `rejected`, `missing`, `expiring` or `requested`.
    pub reason: Option<&'a str>,
    /// `TOKENKEEP_STATUS`: the decisive status, if there was a response.
    pub status: Option<u64>,
    /// `TOKENKEEP_DETAIL`: the server's own explanation, without secrets. Control characters are
    /// replaced by spaces.
    pub detail: Option<&'a str>,
    /// `TOKENKEEP_ATTEMPT`: number of the re-authentication attempt, from 1.
    pub attempt: Option<u64>,
    /// `TOKENKEEP_FILE`: the token's file, if its source is a file.
    pub file: Option<&'a Path>,
    /// `TOKENKEEP_EVENT`: the event's name.
    pub event: Option<&'a str>,
}

impl Variables<'_> {
    pub(super) fn set(self, command: &mut Command) {
        let [status, attempt] =
            [self.status, self.attempt].map(|number| number.map(|number| number.to_string()));
        // A server's text may contain a NUL, which would prevent the command from starting.
        let detail = self.detail.map(|detail| detail.replace(char::is_control, " "));
        for (variable, value) in [
            ("TOKENKEEP_NAME", self.name),
            ("TOKENKEEP_SERVER", self.server),
            ("TOKENKEEP_URL", self.url),
            ("TOKENKEEP_REASON", self.reason),
            ("TOKENKEEP_STATUS", status.as_deref()),
            ("TOKENKEEP_DETAIL", detail.as_deref()),
            ("TOKENKEEP_ATTEMPT", attempt.as_deref()),
            ("TOKENKEEP_EVENT", self.event),
        ] {
            if let Some(value) = value {
                command.env(variable, value);
            }
        }
        if let Some(file) = self.file {
            command.env("TOKENKEEP_FILE", file);
        }
    }
}
