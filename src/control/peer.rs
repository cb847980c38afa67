//! Peer credentials and permissions of a client of the control socket.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

use crate::settings::{Reader, Settings};
use crate::users::{gid_of, uid_of};

/// Credentials of a client, as reported by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl From<UCred> for Caller {
    fn from(peer: UCred) -> Self {
        Self { uid: peer.uid(), gid: peer.gid() }
    }
}

impl Caller {
    /// Whether the client may change state and read all values: root and the daemon's own user may.
    /// Every client that can connect may read states.
    pub fn may_act(self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }

    /// Whether the client is one of `readers`. Queries the user database, which may block.
    pub fn is_among(self, readers: &[Reader]) -> bool {
        let mut groups = None;
        readers.iter().any(|reader| match reader {
            Reader::User(user) => uid_of(user) == Some(self.uid),
            Reader::Group(group) => gid_of(group).is_some_and(|gid| {
                gid == self.gid || groups.get_or_insert_with(|| groups_of(self.uid)).contains(&gid)
            }),
        })
    }
}

/// The groups of a user, from the user database.
fn groups_of(uid: u32) -> Vec<u32> {
    let groups = || {
        let user = User::from_uid(Uid::from_raw(uid)).ok()??;
        getgrouplist(&CString::new(user.name).ok()?, user.gid).ok()
    };
    groups().unwrap_or_default().into_iter().map(Gid::as_raw).collect()
}

/// Warnings about `readers` that cannot read values: unknown users and groups, and users who cannot
/// open the socket because they are not in `group`.
pub fn unusable_readers(settings: &Settings, group: &str) -> Vec<String> {
    let tokens = settings.tokens.iter().map(|token| ("token", &token.name, &token.keep_alive));
    let inventories = settings.inventories.iter();
    let inventories = inventories.map(|one| ("inventory", &one.name, &one.keep_alive));
    let socket_group = gid_of(group);
    let mut errors = Vec::new();
    for (section, name, keep_alive) in tokens.chain(inventories) {
        for reader in &keep_alive.readers {
            let error = match reader {
                Reader::User(user) => match uid_of(user) {
                    None => Some("there is no such user".to_owned()),
                    Some(0) => None,
                    Some(uid) => socket_group
                        .filter(|gid| !groups_of(uid).contains(gid))
                        .map(|_| format!("not in the group {group}, and cannot open the socket")),
                },
                Reader::Group(named) if gid_of(named).is_none() => {
                    Some("there is no such group".to_owned())
                }
                // Members of both groups can read; whether there are any is unknown.
                Reader::Group(_) => None,
            };
            let told = error.map(|error| format!("[{section}.{name}] readers: {reader}: {error}"));
            errors.extend(told);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(readers: &[&str]) -> Vec<Reader> {
        readers.iter().map(|reader| Reader::from(*reader)).collect()
    }

    #[test]
    fn readers_are_users_or_groups_by_name_or_number() {
        let caller = Caller { uid: 4_000_001, gid: 4_000_002 };
        assert!(caller.is_among(&readers(&["root", "4000001"])));
        assert!(caller.is_among(&readers(&["@root", "@4000002"])));
        assert!(!caller.is_among(&readers(&["4000002", "@4000001", "root", "@root"])));
        assert!(!caller.is_among(&[]));
        let root = Caller { uid: 0, gid: 4_000_002 };
        assert!(root.is_among(&readers(&["@root"])), "by the group that the database knows");
    }

    #[test]
    fn only_root_and_the_daemon_s_own_user_may_act() {
        let own = Uid::effective().as_raw();
        assert!(Caller { uid: own, gid: 1 }.may_act() && Caller { uid: 0, gid: 1 }.may_act());
        assert!(!Caller { uid: own + 4_000_001, gid: 0 }.may_act());
    }
}
