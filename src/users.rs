//! Look-ups in the user database. Each may block, as the database may be in the network.

use nix::unistd::{Group, User};

/// The id of a user, by name or number; `None` if there is no such user.
pub(crate) fn uid_of(user: &str) -> Option<u32> {
    user.parse().ok().or_else(|| Some(User::from_name(user).ok()??.uid.as_raw()))
}

/// The id of a group, by name or number; `None` if there is no such group.
pub(crate) fn gid_of(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| Some(Group::from_name(group).ok()??.gid.as_raw()))
}
