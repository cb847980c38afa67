//! Look-ups in the user database. Each may block, as the database may be in the network.

use std::io;

use nix::errno::Errno;
use nix::unistd::{Group, User};

/// The id of a user, by name or number; `None` if there is no such user.
pub(crate) fn uid_of(user: &str) -> Option<u32> {
    user.parse().ok().or_else(|| Some(User::from_name(user).ok()??.uid.as_raw()))
}

/// The id of a group, by name or number; `None` if there is no such group, or if the database
/// cannot be read.
pub(crate) fn gid_of(group: &str) -> Option<u32> {
    find_gid(group).ok().flatten()
}

/// The id of a group, by name or number; `None` if there is no such group.
///
/// # Errors
///
/// The database cannot be read.
pub(crate) fn find_gid(group: &str) -> io::Result<Option<u32>> {
    if let Ok(gid) = group.parse() {
        return Ok(Some(gid));
    }
    match Group::from_name(group) {
        Ok(found) => Ok(found.map(|group| group.gid.as_raw())),
        // Some databases report a missing group so, as `getgrnam(3)` says.
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_group_is_no_error() {
        assert_eq!(find_gid("no-such-group-here").unwrap(), None);
        assert_eq!(find_gid("root").unwrap(), Some(0));
        assert_eq!(find_gid("4711").unwrap(), Some(4_711));
    }
}
