//! Fields of log events. A stable interface.

use super::record::Values;

/// Declares [`Fields`] from one table, in output order.
macro_rules! fields {
    (
        $(#[$about:meta])*
        pub struct Fields<$life:lifetime> {
            $($(#[$doc:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Fields<$life> {
            $($(#[$doc])* pub $field: Option<$type>,)*
        }

        impl<$life> Fields<$life> {
            /// The fields that are set, by name.
            pub(super) fn values(&self) -> Values {
                let mut values = Values::new();
                $(if let Some(value) = self.$field {
                    values.push((stringify!($field).into(), value.into()));
                })*
                values
            }
        }
    };
}

fields! {
    /// The fields of an event. A field that is `None` is omitted from the line.
    ///
    /// ```
    /// use tokenkeep::event_log::{Fields, EventName, Severity, emit};
    ///
    /// let fields = Fields { token: Some("quotes"), status: Some(410), ..Fields::default() };
    /// emit(EventName::TokenExpired, Severity::Error, "the token has expired", &fields);
    /// ```
    pub struct Fields<'a> {
        /// The token's name.
        pub token: &'a str,
        /// The server's name.
        pub server: &'a str,
        /// Remaining life, as reported by the server.
        pub remaining_ms: u64,
        /// Time until the next check.
        pub next_check_ms: u64,
        /// Whether the check renewed the token; `None` if that is unknown.
        pub renewed: bool,
        /// `true` if the API reports no life, so that `remaining_ms` is assumed; else omitted.
        pub assumed: bool,
        /// The API's status if there is one, else the HTTP status.
        pub status: u16,
        /// The text that the server or command returned.
        pub detail: &'a str,
        /// The error, in one sentence.
        pub error: &'a str,
        /// Number of this attempt, from 1.
        pub attempt: u32,
        /// Time until the next attempt.
        pub retry_in_ms: u64,
        /// Duration of the operation.
        pub duration_ms: u64,
        /// A command's exit status.
        pub exit_status: i32,
        /// Name of the `[reauth.NAME]` method.
        pub reauth: &'a str,
        /// Reason for the action.
        pub reason: &'a str,
        /// Time until the token expires if nothing renews it.
        pub dies_in_ms: u64,
        /// The request that renews tokens: `query` or `renew`.
        pub renews_by: &'a str,
        /// Number of affected tokens.
        pub tokens: u64,
        /// Name of the `[inventory.NAME]`.
        pub inventory: &'a str,
        /// Number of tokens that are new in an inventory.
        pub tokens_added: u64,
        /// Number of tokens that are no longer in an inventory.
        pub tokens_removed: u64,
        /// Number of tokens whose value in an inventory has changed.
        pub tokens_changed: u64,
        /// Path of a file or directory.
        pub path: &'a str,
        /// Names that a reload added, separated by commas; the caller bounds the list.
        pub added: &'a str,
        /// Names that a reload removed, likewise.
        pub removed: &'a str,
        /// Names that a reload changed, likewise.
        pub changed: &'a str,
        /// Settings that only a restart can change, likewise.
        pub needs_restart: &'a str,
        /// The action that an operator requested.
        pub action: &'a str,
        /// User id of the operator.
        pub uid: u32,
        /// Version of tokenkeep.
        pub version: &'a str,
        /// Origin of a new value.
        pub by: &'a str,
        /// Name of a replica of the cluster.
        pub replica: &'a str,
        /// Name of the `[notify.NAME]`.
        pub notify: &'a str,
        /// Name of the event that was not delivered.
        pub undelivered_event: &'a str,
        /// Number of events that were not delivered.
        pub dropped: u64,
        /// Number of suppressed lines of this kind before this one.
        pub suppressed: u64,
    }
}
