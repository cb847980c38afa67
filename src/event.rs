//! Names of the events, with their levels and `MESSAGE_ID`s. A stable interface.

/// Severity of an event: its log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For debugging tokenkeep or a server.
    Debug,
    /// Normal operation.
    Info,
    /// An operator should look at it, but no token is at risk yet.
    Warn,
    /// An operator must act, or a token is lost.
    Error,
}

/// Declares [`EventName`] from one table, so that each name has a text, a level and an id.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident, $text:literal, $severity:ident, $id:literal;)*) => {
        /// The name of a log event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventName {
            $($(#[$doc])* $variant,)*
        }

        impl EventName {
            /// All names, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The event with this name, in `snake_case`.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|event| event.as_str() == name)
            }

            /// The name in `snake_case`, as log lines show it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The documented level; the lower level if the event has two.
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$variant => Severity::$severity,)*
                }
            }

            /// The `MESSAGE_ID` in the journal, which the catalog refers to: 128 random bits in
            /// lower-case hexadecimal. Never changes.
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
    /// Startup is complete, and the first checks are in flight.
    DaemonReady, "daemon_ready", Info, "0b0b6d058ea34bb7ae9c21eb20f9aff0";
    /// The daemon cannot start. The last line of the log.
    StartFailed, "start_failed", Error, "9502c38fae0733053feb7615d210dc56";
    /// The daemon has received a signal to stop.
    DaemonStopping, "daemon_stopping", Info, "9f3cedb2af0248e6adb405f1a768912a";
    /// The daemon has stopped. The last line of the log.
    DaemonStopped, "daemon_stopped", Info, "0b63db5b801a459c94a41b62f118d7ff";
    /// A new configuration was applied.
    ConfigReloaded, "config_reloaded", Info, "b723a50ebd784dd881ad9e90d495bf95";
    /// A new configuration was rejected; the previous configuration stays active.
    ConfigRejected, "config_rejected", Error, "82d5c7dc3cb5493391be03bd1b25d318";
    /// The configuration is valid but probably a mistake.
    ConfigWarning, "config_warning", Warn, "23dcc4199f0f44cc9f75f85d89f9e6dd";
    /// An inventory was read, with the number of added, removed and changed tokens.
    InventoryLoaded, "inventory_loaded", Info, "3fff652cc5fb4f00bf4186caa2e2520d";
    /// A check found the token alive.
    TokenChecked, "token_checked", Info, "1b0bbeb6d86c4f109c011cdf796a5dbd";
    /// Summary of one minute of checks, instead of one line for each.
    ChecksSummary, "checks_summary", Info, "70fcb1d55ac64a1880fa6e433e94158e";
    /// No permitted request renews this token value.
    RenewalNotObserved, "renewal_not_observed", Warn, "a0c2f1b4dd3b4556aa37f7c3a9c03948";
    /// The renewal method of a server is known, or has changed.
    RenewalLearned, "renewal_learned", Info, "f175fdd0886f4d3e8fbbbab41e6c37c7";
    /// A check failed; at error level if the server rejected the request itself.
    CheckFailed, "check_failed", Warn, "cf72d4b8b95946a8a3725827e7d29ac9";
    /// A server has stopped responding.
    ServerUnavailable, "server_unavailable", Error, "a252283f02d4468ba001fb04d1bee7d8";
    /// A server responds again.
    ServerRecovered, "server_recovered", Info, "3604db0a54444efbae9f477414e4ad9f";
    /// Half of the retry window has passed without a response; at error level, nine tenths.
    TokenExpiring, "token_expiring", Warn, "c3eb80fa3a1247f49001849c68131e37";
    /// The server reported that the token has expired.
    TokenExpired, "token_expired", Error, "7398f299f0aa4b569f20899a3c2d022f";
    /// The server has reported twice that it does not know the token.
    TokenRejected, "token_rejected", Error, "d8962d0bd4f34bcab20bb6bc3a2c2a5c";
    /// The source has no value.
    TokenMissing, "token_missing", Error, "94cb916adcf2416b94c69b3efa12975c";
    /// The last known expiry has passed without a response.
    TokenUnverified, "token_unverified", Error, "3ba28794f3954e418ecdb8e67ae6d6ff";
    /// Alive again after any of the above.
    TokenRecovered, "token_recovered", Info, "f63d72417a2942e9911470c4d2cd29e8";
    /// A token has a new current value, which is in its file if the token has one.
    TokenReplaced, "token_replaced", Info, "494563c3f35a321c4510d5b94d4d0377";
    /// A token was revoked, by configuration or by an operator; at warning level if that failed.
    TokenRevoked, "token_revoked", Info, "0830410ff27b48e6885edab321420faa";
    /// A new token value is being fetched.
    ReauthStarted, "reauth_started", Info, "2392c4a0c3714513af62cee8086b9cf4";
    /// Re-authentication returned a token value that is now the current value.
    ReauthSucceeded, "reauth_succeeded", Info, "c73af42d93a548ff856bdd0d2dfa722f";
    /// A re-authentication attempt returned no value.
    ReauthFailed, "reauth_failed", Error, "632bfb51a5914adebe44f25f06b6aae3";
    /// No re-authentication attempt is left until the window ends.
    ReauthExhausted, "reauth_exhausted", Error, "614a949243a14f2b9e64460954d6a4a7";
    /// A new value or state could not be written; the daemon retries.
    StoreFailed, "store_failed", Error, "71c326cd7bcb4f38bf7ede4318dfa882";
    /// The server rejected a refresh token, while the token that it renews lives.
    RefreshTokenRejected, "refresh_token_rejected", Error, "5d1f0c7a9b6e4e2f8a3c41d7be90625a";
    /// An event could not be delivered to a `[notify.NAME]`.
    NotifyFailed, "notify_failed", Error, "9119239fdb164d01b4310e25b009a4c4";
    /// An operator's request was accepted.
    ActionRequested, "action_requested", Info, "a39cf10280da40479b5cc105b2b7aaa6";
    /// An operator's request was refused.
    ActionRefused, "action_refused", Warn, "23b41800df9e46a59241164bbcfb421b";
    /// A token value was read over the control socket.
    ValueRead, "value_read", Info, "137c03f42ac24e6388c5d46d06b71c9c";
    /// Lines were suppressed: their number, and the names of their events.
    EventsSuppressed, "events_suppressed", Warn, "17b4ac7b469a456187f6a7109ea5bdd1";
    /// This replica has joined its cluster.
    ClusterJoined, "cluster_joined", Info, "ae197fef0cd0491987ebd511813d00f2";
    /// Another replica has joined the cluster.
    ReplicaJoined, "replica_joined", Info, "17eba0b62469443491b136957ad1bd8a";
    /// Another replica has left the cluster, or is silent.
    ReplicaLeft, "replica_left", Warn, "f932ed2afc0544eeb72008ecad432de8";
    /// etcd does not respond, or this replica cannot use it.
    ClusterUnreachable, "cluster_unreachable", Error, "301731d652604258b1fa10e0f933a1b2";
    /// This replica can use etcd again.
    ClusterRecovered, "cluster_recovered", Info, "2df042c417be44e28bef26ea8519cc92";
    /// A login or another request that can be sent only once waits for etcd or another replica.
    ReauthHeld, "reauth_held", Error, "d4373def796f4a7ba27c724eeb74068e";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn event_names_are_unique_and_in_snake_case() {
        let texts: BTreeSet<_> = EventName::ALL.iter().map(|name| name.as_str()).collect();
        assert_eq!(texts.len(), EventName::ALL.len());
        assert!(texts.iter().all(|text| text.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }

    #[test]
    fn message_ids_are_unique_and_in_the_journal_s_format() {
        let ids: BTreeSet<_> = EventName::ALL.iter().map(|name| name.message_id()).collect();
        assert_eq!(ids.len(), EventName::ALL.len());
        let is_hex = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
        assert!(ids.iter().all(|id| id.len() == 32 && id.chars().all(is_hex)), "{ids:?}");
    }

    #[test]
    fn the_journal_catalog_lists_exactly_these_events() {
        let catalog = include_str!("../systemd/tokenkeep.catalog");
        let explained: Vec<_> =
            catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let contract: Vec<_> = EventName::ALL.iter().map(|name| name.message_id()).collect();
        assert_eq!(explained, contract);
    }

    #[test]
    fn the_journal_catalog_has_a_meaning_and_a_remedy_for_each_warning_and_error() {
        let catalog = include_str!("../systemd/tokenkeep.catalog");
        let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
        for name in EventName::ALL.iter().filter(|name| name.severity() >= Severity::Warn) {
            let entry = entries.iter().find(|entry| entry.starts_with(name.message_id()));
            let (header, body) = entry.and_then(|entry| entry.split_once("\n\n")).expect("a text");
            assert!(header.contains("\nSubject: "), "{}", name.as_str());
            let paragraphs = body.trim_end().split("\n\n").count();
            assert!(paragraphs >= 2, "{}: {body}", name.as_str());
        }
    }

    #[test]
    fn events_that_need_an_operator_are_errors() {
        let errors: Vec<_> = EventName::ALL
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
                "refresh_token_rejected",
                "notify_failed",
                "cluster_unreachable",
                "reauth_held",
            ]
        );
    }
}
