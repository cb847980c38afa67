//! The names of the log events, each with its level: a stable interface.

use super::Severity;

/// Declares [`Name`] from one table, so that a name cannot lack its text or its level.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident, $text:literal, $severity:ident;)*) => {
        /// The name of a log event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Name {
            $($(#[$doc])* $variant,)*
        }

        impl Name {
            /// Every name, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name as it stands in a log line, in `snake_case`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The level of the contract; the lower one where it has two.
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$variant => Severity::$severity,)*
                }
            }
        }
    };
}

names! {
    /// The process runs and has read its configuration.
    DaemonStarted, "daemon_started", Info;
    /// Configuration and stores hold, the first checks are under way.
    DaemonReady, "daemon_ready", Info;
    /// A signal to stop has come.
    DaemonStopping, "daemon_stopping", Info;
    /// The last line.
    DaemonStopped, "daemon_stopped", Info;
    /// A new configuration holds.
    ConfigReloaded, "config_reloaded", Info;
    /// A new configuration was refused whole; the old one goes on.
    ConfigRejected, "config_rejected", Error;
    /// Something in the configuration holds, but is hardly meant.
    ConfigWarning, "config_warning", Warn;
    /// An inventory was read; with what that added, removed and changed.
    InventoryLoaded, "inventory_loaded", Info;
    /// A token is alive.
    TokenChecked, "token_checked", Info;
    /// No permitted way extends this token value.
    RenewalNotObserved, "renewal_not_observed", Warn;
    /// How a server renews is known, or has changed.
    RenewalLearned, "renewal_learned", Info;
    /// A check came to no conclusion; at error level where the request itself was refused.
    CheckFailed, "check_failed", Warn;
    /// A server has stopped answering.
    ServerUnavailable, "server_unavailable", Error;
    /// A server answers again.
    ServerRecovered, "server_recovered", Info;
    /// Half of the retry room is gone without an answer; at error level, nine tenths.
    TokenExpiring, "token_expiring", Warn;
    /// The server says that the token's life is over.
    TokenExpired, "token_expired", Error;
    /// The server has said twice that it does not know the token.
    TokenRejected, "token_rejected", Error;
    /// The source has no value.
    TokenMissing, "token_missing", Error;
    /// The bound passed with no answer.
    TokenUnverified, "token_unverified", Error;
    /// Alive again after any of the above.
    TokenRecovered, "token_recovered", Info;
    /// A token was revoked at the end, as its configuration asks for; a warning where that failed.
    TokenRevoked, "token_revoked", Info;
    /// A new token value is being fetched.
    ReauthStarted, "reauth_started", Info;
    /// A new token value is in use.
    ReauthSucceeded, "reauth_succeeded", Info;
    /// An attempt brought no value.
    ReauthFailed, "reauth_failed", Error;
    /// No attempt is left until the window ends.
    ReauthExhausted, "reauth_exhausted", Error;
    /// A new value or state could not be written; it is tried again.
    StoreFailed, "store_failed", Error;
    /// Lines were left out; says how many, and of which events.
    EventsSuppressed, "events_suppressed", Warn;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_event_has_a_name_of_its_own_in_snake_case() {
        let texts: BTreeSet<_> = Name::ALL.iter().map(|name| name.as_str()).collect();
        assert_eq!(texts.len(), Name::ALL.len());
        assert!(texts.iter().all(|text| text.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }

    #[test]
    fn what_somebody_must_act_on_is_an_error() {
        let errors: Vec<_> = Name::ALL
            .iter()
            .filter(|name| name.severity() == Severity::Error)
            .map(|name| name.as_str())
            .collect();
        assert_eq!(
            errors,
            [
                "config_rejected",
                "server_unavailable",
                "token_expired",
                "token_rejected",
                "token_missing",
                "token_unverified",
                "reauth_failed",
                "reauth_exhausted",
                "store_failed",
            ]
        );
    }
}
