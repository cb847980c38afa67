//! The fields of an event: a stable interface.

use super::record::Values;

/// Declares [`Fields`] from one table, in the order in which a line has them.
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
    /// What an event tells besides its message. What is `None` is left out of the line.
    ///
    /// ```
    /// use tokenkeep::events::{Fields, Name, Severity, emit};
    ///
    /// let fields = Fields { token: Some("quotes"), status: Some(410), ..Fields::default() };
    /// emit(Name::TokenExpired, Severity::Error, "the token has expired", &fields);
    /// ```
    pub struct Fields<'a> {
        /// The token's name.
        pub token: &'a str,
        /// The server's name.
        pub server: &'a str,
        /// Life left, as reported.
        pub remaining_ms: u64,
        /// Time until the next check.
        pub next_check_ms: u64,
        /// Whether the check extended the token's life; `None` where that cannot be judged.
        pub renewed: bool,
        /// The status that decided: the API's, else that of HTTP.
        pub status: u16,
        /// The other side's own words.
        pub detail: &'a str,
        /// What went wrong, in a sentence.
        pub error: &'a str,
        /// Which attempt this was, counted from 1.
        pub attempt: u32,
        /// Time until the next attempt.
        pub retry_in_ms: u64,
        /// How long it took.
        pub duration_ms: u64,
        /// A command's exit status.
        pub exit_status: i32,
        /// A way to new token values, by the name of its `[reauth.NAME]`.
        pub reauth: &'a str,
        /// Why it was done.
        pub reason: &'a str,
        /// Time until the token dies if nothing changes.
        pub dies_in_ms: u64,
        /// Which call renews: `query` or `renew`.
        pub renews_by: &'a str,
        /// How many tokens are concerned.
        pub tokens: u64,
        /// Where tokens come from, by the name of their `[inventory.NAME]`.
        pub inventory: &'a str,
        /// How many tokens an inventory brings that were not there before.
        pub tokens_added: u64,
        /// How many it brings no longer.
        pub tokens_removed: u64,
        /// How many have another value in it.
        pub tokens_changed: u64,
        /// A file or folder.
        pub path: &'a str,
        /// Names that a reload added, separated by commas; the caller bounds the list.
        pub added: &'a str,
        /// Names that a reload removed, likewise.
        pub removed: &'a str,
        /// Names that a reload changed, likewise.
        pub changed: &'a str,
        /// Settings that only a restart can change, likewise.
        pub needs_restart: &'a str,
        /// What a person has asked for.
        pub action: &'a str,
        /// Who that was, by the user's number.
        pub uid: u32,
        /// The program's version.
        pub version: &'a str,
        /// Where a new value comes from.
        pub by: &'a str,
        /// Lines of this kind left out before this one.
        pub suppressed: u64,
    }
}
