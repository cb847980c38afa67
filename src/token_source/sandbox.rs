//! Hints about the sandbox of a systemd unit, which hides home directories (`ProtectHome=`) and the
//! temporary files of other processes (`PrivateTmp=`).
//!
//! The hints are part of messages about missing or unreadable files. The mount table is the
//! evidence. Without evidence, a service gets a conditional hint, and other processes get none.

use std::fs;
use std::path::{Path, PathBuf};

use super::mount_table::MOUNT_TABLE;
use super::symlinks::chain;
use crate::systemd;

/// A setting that hides directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    /// The effect, as a sentence.
    effect: &'static str,
    folders: &'static [&'static str],
    /// Text in the root of the mount that systemd puts over such a directory.
    trace: &'static str,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        name: "ProtectHome",
        effect: "home directories are hidden from the service",
        folders: &["/home", "/root", "/run/user"],
        trace: "systemd/inaccessible",
    },
    Setting {
        name: "PrivateTmp",
        effect: "the service has a /tmp and a /var/tmp of its own",
        folders: &["/tmp", "/var/tmp"],
        trace: "systemd-private-",
    },
];

/// Addition to a message that `path` is missing or unreadable, if the sandbox may be the reason.
/// Begins with "; ".
pub(crate) fn hint(path: &Path) -> Option<String> {
    let table = fs::read_to_string(MOUNT_TABLE).unwrap_or_default();
    hint_for(chain(path), &table, systemd::is_system_service())
}

fn hint_for(
    mut paths: impl Iterator<Item = PathBuf>,
    table: &str,
    is_service: bool,
) -> Option<String> {
    let (setting, folder) = paths.find_map(|path| {
        SETTINGS.iter().find_map(|setting| {
            let folder = setting.folders.iter().find(|folder| path.starts_with(folder))?;
            Some((setting, *folder))
        })
    })?;
    let Setting { name, effect, .. } = setting;
    let remedy = format!("move the file, or set `{name}=no` with `systemctl edit tokenkeep`");
    if is_hidden(setting, folder, table) {
        return Some(format!("; {effect} by `{name}=` of the unit: {remedy}"));
    }
    is_service.then(|| format!("; {effect} if the unit sets `{name}=`: then {remedy}"))
}

/// Whether systemd has mounted something over `folder` to hide it.
fn is_hidden(setting: &Setting, folder: &str, table: &str) -> bool {
    // ID, parent ID, device, root, mount point, ...
    let mut mounts = table.lines().rev().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    // The last one of several mounts on the same directory counts.
    let over = mounts.find(|(_, point)| *point == folder);
    over.is_some_and(|(root, _)| root.contains(setting.trace))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mount table of a service with `ProtectHome=yes` and `PrivateTmp=yes`.
    const SANDBOX: &str = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
90 22 0:24 /systemd/inaccessible/dir /home ro,nosuid - tmpfs tmpfs rw
91 22 0:24 /systemd/inaccessible/dir /root ro,nosuid - tmpfs tmpfs rw
95 22 0:35 /systemd-private-1f-tokenkeep.service-x/tmp /tmp rw - tmpfs tmpfs rw
96 22 254:0 /var/tmp/systemd-private-1f-tokenkeep.service-y/tmp /var/tmp rw - ext4 /dev/vda rw
";

    fn said(path: &str, table: &str, is_service: bool) -> String {
        hint_for(std::iter::once(path.into()), table, is_service).unwrap_or_default()
    }

    #[test]
    fn mount_of_the_sandbox_is_named_with_its_unit_setting() {
        for (path, setting) in [
            ("/home/trader/quotes.token", "ProtectHome="),
            ("/root/quotes.token", "ProtectHome="),
            ("/tmp/quotes.token", "PrivateTmp="),
            ("/var/tmp/a/quotes.token", "PrivateTmp="),
        ] {
            for is_service in [false, true] {
                let said = said(path, SANDBOX, is_service);
                assert!(said.contains(&format!("by `{setting}` of the unit")), "{path}: {said}");
            }
        }
    }

    #[test]
    fn without_such_a_mount_only_a_service_gets_a_conditional_hint() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:40 / /tmp rw - tmpfs tmpfs rw\n";
        for path in ["/home/a", "/root/a", "/run/user/1000/a", "/tmp/a", "/var/tmp/a"] {
            assert_eq!(said(path, table, false), "", "{path}");
            let said = said(path, table, true);
            assert!(said.contains("if the unit sets `"), "{path}: {said}");
        }
    }

    #[test]
    fn other_directories_are_not_hidden() {
        for path in ["/etc/tokenkeep/quotes.token", "/homes/a", "/var/lib/tmp/a", "quotes.token"] {
            assert_eq!(said(path, SANDBOX, true), "", "{path}");
        }
    }

    #[test]
    fn symbolic_link_into_a_hidden_directory_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("quotes.token");
        std::os::unix::fs::symlink("/root/quotes.token", &link).unwrap();
        // The temporary directory may itself be hidden.
        let said = hint_for(chain(&link).skip(1), SANDBOX, false).unwrap_or_default();
        assert!(said.contains("ProtectHome="), "{said}");
    }
}
