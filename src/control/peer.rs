//! Who is at the other end of the socket, as the kernel knows it, and what it may do.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

use crate::settings::{Reader, Settings};

/// The process at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl From<UCred> for Caller {
    fn from(peer: UCred) -> Self {
        Self { uid: peer.uid(), gid: peer.gid() }
    }
}

impl Caller {
    /// Whether it may do what changes something, and read every value: root, and the user that
    /// this process runs as. Whoever can connect at all may look.
    pub fn may_act(self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }

    /// Whether it is one of `readers`. Asks the system's user database, which may block.
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

pub(super) fn uid_of(user: &str) -> Option<u32> {
    user.parse().ok().or_else(|| Some(User::from_name(user).ok()??.uid.as_raw()))
}

pub(super) fn gid_of(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| Some(Group::from_name(group).ok()??.gid.as_raw()))
}

/// The groups that the database knows a user to be in.
fn groups_of(uid: u32) -> Vec<u32> {
    let groups = || {
        let user = User::from_uid(Uid::from_raw(uid)).ok()??;
        getgrouplist(&CString::new(user.name).ok()?, user.gid).ok()
    };
    groups().unwrap_or_default().into_iter().map(Gid::as_raw).collect()
}

/// What is wrong with the `readers` of a configuration, in sentences: those that the system does
/// not know, and those that cannot open the socket for want of `group`.
pub fn outsiders(settings: &Settings, group: &str) -> Vec<String> {
    let tokens = settings.tokens.iter().map(|token| ("token", &token.name, &token.upkeep));
    let inventories = settings.inventories.iter();
    let inventories = inventories.map(|one| ("inventory", &one.name, &one.upkeep));
    let socket_group = gid_of(group);
    let mut faults = Vec::new();
    for (section, name, upkeep) in tokens.chain(inventories) {
        for reader in &upkeep.readers {
            let fault = match reader {
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
                // Whoever of a group is in the other one too may read; nothing tells who that is.
                Reader::Group(_) => None,
            };
            let told = fault.map(|fault| format!("[{section}.{name}] readers: {reader}: {fault}"));
            faults.extend(told);
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(readers: &[&str]) -> Vec<Reader> {
        readers.iter().map(|reader| Reader::from(*reader)).collect()
    }

    #[test]
    fn a_reader_is_a_user_or_a_group_by_name_or_number() {
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
