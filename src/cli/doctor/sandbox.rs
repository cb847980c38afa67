//! The sandbox of the shipped unit: which paths it hides from the daemon, or makes read-only.

use std::fs;
use std::path::Path;

use super::diagnosis::Diagnosis;
use crate::settings::Settings;

/// The unit's `RuntimeDirectory=`.
const RUNTIME_DIRECTORY: &str = "/run/tokenkeep";

/// The text of the drop-ins for the service, and of a unit that replaces the shipped one.
pub(super) struct DropIns(String);

impl DropIns {
    pub(super) fn read() -> Self {
        let folders = ["/etc/systemd/system", "/run/systemd/system"].map(Path::new);
        let files = folders.iter().flat_map(|folder| {
            let drop_ins = fs::read_dir(folder.join("tokenkeep.service.d")).into_iter().flatten();
            let drop_ins = drop_ins.flatten().map(|entry| entry.path());
            drop_ins.chain([folder.join("tokenkeep.service")])
        });
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        Self(texts.map(|text| text + "\n").collect())
    }

    /// Warns if the sandbox of the shipped unit hides the file that `what` names, or makes it
    /// read-only although it `is_written`, unless a drop-in permits it.
    pub(super) fn check(
        &self,
        what: &str,
        path: &Path,
        is_written: bool,
        settings: &Settings,
        diagnosis: &Diagnosis,
    ) {
        let is_in = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        let (effect, setting, remedy) = if is_in(&["/home", "/root", "/run/user"]) {
            ("hides home directories", "ProtectHome", "move the file, or set ProtectHome=no")
        } else if is_in(&["/tmp", "/var/tmp"]) {
            ("has a /tmp of its own", "PrivateTmp", "move the file, or set PrivateTmp=no")
        } else if is_written
            && path.is_absolute()
            && !path.starts_with(&settings.state_dir)
            && !path.starts_with(RUNTIME_DIRECTORY)
        {
            ("cannot write there", "ReadWritePaths", "add its directory to ReadWritePaths=")
        } else {
            return;
        };
        if is_permitted(&self.0, setting, path) {
            return;
        }
        diagnosis.warning(format!(
            "{what} {}: the shipped unit {effect}: {remedy} with `systemctl edit tokenkeep`",
            path.display()
        ));
    }
}

/// Whether `unit` permits the service to use `path`: `setting` is switched off, or lists a directory
/// that contains it.
fn is_permitted(unit: &str, setting: &str, path: &Path) -> bool {
    let values = unit.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        (key.trim() == setting).then_some(value)
    });
    values.flat_map(str::split_whitespace).any(|word| match setting {
        // A leading sign says what happens if it does not exist, or which root it is below.
        "ReadWritePaths" => path.starts_with(word.trim_start_matches(['-', '+'])),
        _ => ["no", "false", "off", "0"].contains(&word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_permits_what_the_shipped_unit_does_not() {
        let unit = "[Service]\nReadWritePaths=/srv/a -/srv/b\n ProtectHome = off\nPrivateTmp=yes\n";
        for (setting, path, permitted) in [
            ("ReadWritePaths", "/srv/a/quotes.token", true),
            ("ReadWritePaths", "/srv/b/c/quotes.token", true),
            ("ReadWritePaths", "/srv/ab/quotes.token", false),
            ("ProtectHome", "/home/a/quotes.token", true),
            ("PrivateTmp", "/tmp/quotes.token", false),
        ] {
            assert_eq!(is_permitted(unit, setting, Path::new(path)), permitted, "{setting} {path}");
        }
        assert!(!is_permitted("", "ReadWritePaths", Path::new("/srv/a")));
    }
}
