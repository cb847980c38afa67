//! What has been simulated, for people to see that it was not nothing.

use std::fmt;
use std::ops::AddAssign;

use crate::chance::Ms;

/// Declares the counts, their sum and their text.
macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident: $text:literal),* $(,)?) => {
        /// Counts of one world, or of many.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(crate) struct Tally {
            $($(#[$doc])* pub(crate) $name: Ms,)*
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(write!(f, "{} {}; ", self.$name, $text)?;)*
                Ok(())
            }
        }
    };
}

tally! {
    worlds: "seeds",
    checks: "checks",
    hours: "hours",
    logins: "logins",
    rotations: "rotations",
    refused: "logins refused",
    granted: "spendings granted",
    held: "spendings held",
    stolen: "claims stolen",
    too_late: "spendings too late",
    values: "values stored",
    incidents: "incidents",
    restored: "restores of etcd",
    starts: "starts",
    names_taken: "names taken",
    unreachable: "times unreachable",
    deaths: "values expired",
    operations: "operations",
    calm_spans: "calm spans",
}
