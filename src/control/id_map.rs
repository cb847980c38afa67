//! User namespace check: warns about `readers` that this process cannot identify.
//!
//! The kernel reports every client outside the id map as the overflow user (65534). The unit option
//! `PrivateUsers=` creates such a namespace.

use std::fs;

use crate::settings::{Loaded, Location, Reader, Settings, Warning, WarningKind};
use crate::systemd;
use crate::users::{gid_of, uid_of};

/// The mapped id ranges: first id and count.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IdMap(Vec<(u64, u64)>);

impl IdMap {
    /// Reads the map from a file in `/proc`. An unreadable map is taken as complete.
    fn read(path: &str) -> Self {
        fs::read_to_string(path).map_or(Self(vec![(0, u64::MAX)]), |text| Self::parse(&text))
    }

    /// Parses lines of: first id inside, first id outside, count.
    fn parse(text: &str) -> Self {
        let ranges = text.lines().filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some((first.ok()?, count.ok()?))
        });
        Self(ranges.collect())
    }

    fn contains(&self, id: u32) -> bool {
        let id = u64::from(id);
        self.0.iter().any(|(first, count)| (*first..first.saturating_add(*count)).contains(&id))
    }

    /// Whether all ids are mapped, except for the invalid id 4294967295.
    fn is_complete(&self) -> bool {
        self.0.iter().any(|(first, count)| *first == 0 && *count >= u64::from(u32::MAX))
    }
}

/// The warning about `readers` that the user namespace of this process does not map: their requests
/// will be denied. Queries the user database if the map is incomplete, which may block.
pub fn unmapped_readers(loaded: &Loaded) -> Option<Warning> {
    let (users, groups) = (IdMap::read("/proc/self/uid_map"), IdMap::read("/proc/self/gid_map"));
    if users.is_complete() && groups.is_complete() {
        return None;
    }
    let readers = unmapped(&loaded.settings, &users, &groups);
    let remedy = systemd::advice(
        "set `PrivateUsers=no` with `systemctl edit tokenkeep`, or remove these `readers`",
        "run tokenkeep in a user namespace that maps them, or remove these `readers`",
    );
    (!readers.is_empty()).then(|| Warning {
        kind: WarningKind::UnmappedReaders,
        location: Location::File(loaded.files.first().cloned().unwrap_or_default()),
        message: format!(
            "requests of these readers will be denied, because the user namespace of this process \
             does not map them (/proc/self/uid_map): {}",
            readers.join(", ")
        ),
        remedy: remedy.to_owned(),
        excerpt: None,
    })
}

/// The unmapped readers of a configuration, without duplicates. [`super::unusable_readers`] warns
/// about unknown users and groups.
fn unmapped(settings: &Settings, users: &IdMap, groups: &IdMap) -> Vec<String> {
    let tokens = settings.tokens.iter().map(|token| &token.keep_alive);
    let inventories = settings.inventories.iter().map(|inventory| &inventory.keep_alive);
    let mut readers: Vec<&Reader> =
        tokens.chain(inventories).flat_map(|keep_alive| &keep_alive.readers).collect();
    readers.sort_by_key(ToString::to_string);
    readers.dedup();
    let is_unmapped = |reader: &&Reader| match reader {
        Reader::User(user) => uid_of(user).is_some_and(|uid| !users.contains(uid)),
        Reader::Group(group) => gid_of(group).is_some_and(|gid| !groups.contains(gid)),
    };
    readers.into_iter().filter(is_unmapped).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_namespace_maps_everyone_and_private_users_only_root_and_the_service() {
        assert!(IdMap::parse("         0          0 4294967295\n").is_complete());
        let private = IdMap::parse("0 0 1\n972 972 1\n");
        assert!(!private.is_complete());
        for (id, expected) in [(0, true), (972, true), (1, false), (1000, false), (65_534, false)] {
            assert_eq!(private.contains(id), expected, "{id}");
        }
    }
}
