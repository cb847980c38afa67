//! The names of the log events, each with its level and its `MESSAGE_ID`: a stable interface.

use super::Severity;

/// Declares [`Name`] from one table, so that a name cannot lack its text, level or id.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident, $text:literal, $severity:ident, $id:literal;)*) => {
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

            /// Its `MESSAGE_ID` in the journal, by which a catalog explains it: 128 random bits
            /// in lower-case hexadecimal, made once and never changed.
            pub const fn message_id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)*
                }
            }
        }
    };
}

names! {
    /// The process runs and has read its configuration.
    DaemonStarted, "daemon_started", Info, "18d7a89f6c4b4da289f20cd191f29168";
    /// Configuration and stores hold, the first checks are under way.
    DaemonReady, "daemon_ready", Info, "0b0b6d058ea34bb7ae9c21eb20f9aff0";
    /// The daemon cannot start; it is the last line.
    StartFailed, "start_failed", Error, "9502c38fae0733053feb7615d210dc56";
    /// A signal to stop has come.
    DaemonStopping, "daemon_stopping", Info, "9f3cedb2af0248e6adb405f1a768912a";
    /// The last line.
    DaemonStopped, "daemon_stopped", Info, "0b63db5b801a459c94a41b62f118d7ff";
    /// A new configuration holds.
    ConfigReloaded, "config_reloaded", Info, "b723a50ebd784dd881ad9e90d495bf95";
    /// A new configuration was refused whole; the old one goes on.
    ConfigRejected, "config_rejected", Error, "82d5c7dc3cb5493391be03bd1b25d318";
    /// Something in the configuration holds, but is hardly meant.
    ConfigWarning, "config_warning", Warn, "23dcc4199f0f44cc9f75f85d89f9e6dd";
    /// An inventory was read; with what that added, removed and changed.
    InventoryLoaded, "inventory_loaded", Info, "3fff652cc5fb4f00bf4186caa2e2520d";
    /// A token is alive.
    TokenChecked, "token_checked", Info, "1b0bbeb6d86c4f109c011cdf796a5dbd";
    /// Many tokens are alive: a minute of checks, summed up.
    ChecksSummary, "checks_summary", Info, "70fcb1d55ac64a1880fa6e433e94158e";
    /// No permitted way extends this token value.
    RenewalNotObserved, "renewal_not_observed", Warn, "a0c2f1b4dd3b4556aa37f7c3a9c03948";
    /// How a server renews is known, or has changed.
    RenewalLearned, "renewal_learned", Info, "f175fdd0886f4d3e8fbbbab41e6c37c7";
    /// A check came to no conclusion; at error level where the request itself was refused.
    CheckFailed, "check_failed", Warn, "cf72d4b8b95946a8a3725827e7d29ac9";
    /// A server has stopped answering.
    ServerUnavailable, "server_unavailable", Error, "a252283f02d4468ba001fb04d1bee7d8";
    /// A server answers again.
    ServerRecovered, "server_recovered", Info, "3604db0a54444efbae9f477414e4ad9f";
    /// Half of the retry room is gone without an answer; at error level, nine tenths.
    TokenExpiring, "token_expiring", Warn, "c3eb80fa3a1247f49001849c68131e37";
    /// The server says that the token's life is over.
    TokenExpired, "token_expired", Error, "7398f299f0aa4b569f20899a3c2d022f";
    /// The server has said twice that it does not know the token.
    TokenRejected, "token_rejected", Error, "d8962d0bd4f34bcab20bb6bc3a2c2a5c";
    /// The source has no value.
    TokenMissing, "token_missing", Error, "94cb916adcf2416b94c69b3efa12975c";
    /// The bound passed with no answer.
    TokenUnverified, "token_unverified", Error, "3ba28794f3954e418ecdb8e67ae6d6ff";
    /// Alive again after any of the above.
    TokenRecovered, "token_recovered", Info, "f63d72417a2942e9911470c4d2cd29e8";
    /// Another value is a token's current one, and stands in its file if it has one.
    TokenReplaced, "token_replaced", Info, "494563c3f35a321c4510d5b94d4d0377";
    /// A token was revoked, as its configuration or a person asks for; a warning where that failed.
    TokenRevoked, "token_revoked", Info, "0830410ff27b48e6885edab321420faa";
    /// A new token value is being fetched.
    ReauthStarted, "reauth_started", Info, "2392c4a0c3714513af62cee8086b9cf4";
    /// A new token value is in use.
    ReauthSucceeded, "reauth_succeeded", Info, "c73af42d93a548ff856bdd0d2dfa722f";
    /// An attempt brought no value.
    ReauthFailed, "reauth_failed", Error, "632bfb51a5914adebe44f25f06b6aae3";
    /// No attempt is left until the window ends.
    ReauthExhausted, "reauth_exhausted", Error, "614a949243a14f2b9e64460954d6a4a7";
    /// A new value or state could not be written; it is tried again.
    StoreFailed, "store_failed", Error, "71c326cd7bcb4f38bf7ede4318dfa882";
    /// A person has asked for something, and it is done or on its way.
    ActionRequested, "action_requested", Info, "a39cf10280da40479b5cc105b2b7aaa6";
    /// A person has asked for something that is not done.
    ActionRefused, "action_refused", Warn, "23b41800df9e46a59241164bbcfb421b";
    /// A token's value was handed out over the control socket.
    ValueRead, "value_read", Info, "137c03f42ac24e6388c5d46d06b71c9c";
    /// Lines were left out; says how many, and of which events.
    EventsSuppressed, "events_suppressed", Warn, "17b4ac7b469a456187f6a7109ea5bdd1";
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
    fn every_event_has_a_message_id_of_its_own_as_the_journal_writes_it() {
        let ids: BTreeSet<_> = Name::ALL.iter().map(|name| name.message_id()).collect();
        assert_eq!(ids.len(), Name::ALL.len());
        let is_hex = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
        assert!(ids.iter().all(|id| id.len() == 32 && id.chars().all(is_hex)), "{ids:?}");
    }

    #[test]
    fn the_catalog_explains_every_event_and_no_other() {
        let catalog = include_str!("../../systemd/tokenkeep.catalog");
        let explained: Vec<_> =
            catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let contract: Vec<_> = Name::ALL.iter().map(|name| name.message_id()).collect();
        assert_eq!(explained, contract);
    }

    #[test]
    fn the_catalog_says_of_each_warning_and_error_what_it_means_and_then_what_to_do() {
        let catalog = include_str!("../../systemd/tokenkeep.catalog");
        let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
        for name in Name::ALL.iter().filter(|name| name.severity() >= Severity::Warn) {
            let entry = entries.iter().find(|entry| entry.starts_with(name.message_id()));
            let (header, body) = entry.and_then(|entry| entry.split_once("\n\n")).expect("a text");
            assert!(header.contains("\nSubject: "), "{}", name.as_str());
            let paragraphs = body.trim_end().split("\n\n").count();
            assert!(paragraphs >= 2, "{}: {body}", name.as_str());
        }
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
                "start_failed",
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
