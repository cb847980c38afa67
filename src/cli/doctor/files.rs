//! Files and directories: the state directory, token files, the control socket.
//!
//! Write access is checked with `access(2)` and never tried, so that nothing is changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use rustix::io::Errno;

use super::diagnosis::Diagnosis;
use super::sandbox::DropIns;
use super::{CheckProgress, is_outside_unit};
use crate::cli::unit::variable;
use crate::lifecycle::Renewal;
use crate::secret::TokenValue;
use crate::settings::{Settings, Source, Token};
use crate::token_source::{SourceErrorKind, is_mount_point, read};

/// Less free space than this is worth a warning: ten times the database of 10,000 tokens.
const LITTLE_SPACE: u64 = 32 << 20;

/// A readable value of a server's token: for the query that checks the server.
pub(super) struct Value {
    pub(super) token: Token,
    pub(super) value: TokenValue,
}

/// `state_dir`: it exists or can be created, is private, writable and has free space.
pub(super) fn state_directory(path: &Path, diagnosis: &Diagnosis) {
    let name = format!("`state_dir`, {}", path.display());
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match why_not_creatable(path) {
                None => diagnosis.warning(format!(
                    "{name}: it does not exist; the daemon will create it, or create it now for \
                     the service's user with mode 0700"
                )),
                Some(reason) => diagnosis.error(format!(
                    "{name}: it does not exist and cannot be created ({reason}): state and new \
                     token values would be lost at a restart; create it for the service's user \
                     with mode 0700"
                )),
            }
            return;
        }
        Err(error) => {
            return diagnosis.error(format!(
                "{name}: it cannot be examined ({error}); let the service's user search its \
                 directories"
            ));
        }
    };
    if !metadata.is_dir() {
        return diagnosis.error(format!("{name}: it is not a directory; name a directory"));
    }
    if let Some(reason) = why_not_writable(path) {
        return diagnosis.error(format!(
            "{name}: {reason}: state and new token values would be lost at a restart; give it to \
             the service's user, mode 0700"
        ));
    }
    for entry in ["tokenkeep.db", "lock"] {
        let file = path.join(entry);
        if file.exists() && access(&file, Access::READ_OK | Access::WRITE_OK).is_err() {
            diagnosis.error(format!(
                "{}: the service's user may not read and write it; run `chown` on it",
                file.display()
            ));
        }
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        diagnosis.warning(format!(
            "{name}: other users have access to it (mode {mode:04o}); run `chmod 700` on it"
        ));
    }
    match free_space(path) {
        Some(0) => diagnosis.error(format!("{name}: its file system is full; free some space")),
        Some(free) if free < LITTLE_SPACE => diagnosis.warning(format!(
            "{name}: only {} MiB are free on its file system; free some space",
            free >> 20
        )),
        _ => {}
    }
}

/// The directory of the control socket.
pub(super) fn socket(path: &Path, diagnosis: &Diagnosis) {
    let name = format!("`control.socket`, {}", path.display());
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return diagnosis.error(format!("{name}: it is not a socket; remove it"));
        }
        _ => {}
    }
    let Some(folder) = path.parent() else { return };
    let reason = if folder.exists() { why_not_writable(folder) } else { why_not_creatable(folder) };
    let Some(reason) = reason else { return };
    // systemd creates the directory of the unit when it starts it.
    let text = format!(
        "{name}: {}: {reason}; `status` and other commands would find no daemon: set \
         `RuntimeDirectory=` in the unit, or choose another path",
        folder.display()
    );
    if folder.exists() { diagnosis.error(text) } else { diagnosis.warning(text) }
}

/// Checks the sources of all tokens. Returns the readable values.
pub(super) fn tokens(
    settings: &Settings,
    drop_ins: Option<&DropIns>,
    steps: &CheckProgress,
    diagnosis: &Diagnosis,
) -> Vec<Value> {
    let mut values = Vec::new();
    let mut folders = BTreeSet::new();
    for token in &settings.tokens {
        let name = &token.name;
        steps.begin(format!("[token.{name}]"));
        match read(&token.source, &variable) {
            Ok(found) => {
                for warning in &found.warnings {
                    diagnosis.warning(format!("[token.{name}] {warning}"));
                }
                values.push(Value { token: token.clone(), value: found.value });
            }
            Err(fault) => {
                let text = format!("[token.{name}] {fault}");
                let is_absent =
                    matches!(fault.kind, SourceErrorKind::Missing | SourceErrorKind::Empty);
                match (&token.refresh, &token.keep_alive.reauth) {
                    (Some(_), _) if is_absent => diagnosis.warning(format!(
                        "{text}; until then a renewal with the refresh token gets a value"
                    )),
                    (None, Some(_)) if is_absent => {
                        diagnosis.warning(format!("{text}; until then `reauth` gets a new value"));
                    }
                    _ => unreadable(&fault.kind, text, diagnosis),
                }
            }
        }
        let refresh = token.refresh.as_ref();
        if let Some(refresh) = refresh {
            steps.begin(format!("`token.{name}.refresh`"));
            refresh_token(token, refresh, diagnosis);
        }
        let mut file = |source: &Source, is_written| {
            let Source::File(path) = source else { return };
            if is_written {
                replaceable(token, path, &mut folders, diagnosis);
            }
            if let Some(drop_ins) = drop_ins {
                drop_ins.check(&format!("[token.{name}]"), path, is_written, settings, diagnosis);
            }
        };
        file(&token.source, is_replaced(token, settings));
        if let Some(refresh) = refresh {
            file(refresh, true);
        }
    }
    diagnosis.ok(match settings.tokens.len() {
        0 => "the configuration has no [token]".to_owned(),
        count => format!("{} of {count} token values are readable", values.len()),
    });
    values
}

/// Checks the source of a refresh token.
fn refresh_token(token: &Token, source: &Source, diagnosis: &Diagnosis) {
    let key = format!("`token.{}.refresh`", token.name);
    match read(source, &variable) {
        Ok(found) => {
            for warning in &found.warnings {
                diagnosis.warning(format!("{key}, {warning}"));
            }
        }
        Err(error) => {
            let text = format!("{key}, {error}");
            let is_absent = matches!(error.kind, SourceErrorKind::Missing | SourceErrorKind::Empty);
            match &token.keep_alive.reauth {
                Some(reauth) if is_absent => diagnosis.warning(format!(
                    "{text}; without it, the token is not renewed, and [reauth.{reauth}] gets a \
                     new value"
                )),
                _ => unreadable(&error.kind, text, diagnosis),
            }
        }
    }
}

/// Reports a source without a usable value. Outside the unit, its credentials and variables may
/// be missing without a reason to worry.
pub(super) fn unreadable(kind: &SourceErrorKind, text: String, diagnosis: &Diagnosis) {
    let belongs_to_unit =
        matches!(kind, SourceErrorKind::NoCredentialsDirectory | SourceErrorKind::VariableUnset);
    if belongs_to_unit && is_outside_unit() {
        diagnosis.warning(format!("{text} (not checked: this is not the unit's environment)"));
    } else {
        diagnosis.error(text);
    }
}

/// Whether the daemon may write a new value into the token's file.
fn is_replaced(token: &Token, settings: &Settings) -> bool {
    let server = settings.servers.iter().find(|server| server.name == token.keep_alive.server);
    let renews = server.is_some_and(|server| match &server.profile {
        None => server.renewal != Renewal::Query,
        Some(profile) => {
            let renew = profile.renew.as_ref();
            server.renewal != Renewal::Query && renew.is_some_and(|renew| renew.value.is_some())
        }
    });
    token.keep_alive.reauth.is_some() || renews
}

/// Checks that the file can be replaced by a rename in its folder.
fn replaceable(token: &Token, path: &Path, checked: &mut BTreeSet<PathBuf>, diagnosis: &Diagnosis) {
    let kept = "a new value would be kept in `state_dir` instead of the file";
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if is_mount_point(&target) {
        return diagnosis.warning(format!(
            "[token.{}] {}: it is a mount point and cannot be replaced, so that {kept}; mount its \
             directory instead",
            token.name,
            path.display()
        ));
    }
    let folder = match target.parent() {
        None => return,
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
    };
    if !checked.insert(folder.to_owned()) {
        return;
    }
    if let Some(reason) = why_not_writable(folder) {
        diagnosis.warning(format!(
            "[token.{}] {}: {reason}, so that {kept}; let the service's user write to this \
             directory",
            token.name,
            folder.display()
        ));
    }
}

/// Why the process may not create files in `folder`; `None` if it may.
pub(super) fn why_not_writable(folder: &Path) -> Option<String> {
    let error = access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).err()?;
    let is_read_only =
        statvfs(folder).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY));
    Some(if error == Errno::NOENT {
        "it does not exist".to_owned()
    } else if is_read_only {
        "the file system is mounted read-only".to_owned()
    } else {
        format!("it is not writable ({})", io::Error::from(error))
    })
}

/// Why the process may not create the directory `path`; `None` if it may.
fn why_not_creatable(path: &Path) -> Option<String> {
    let existing = path.ancestors().skip(1).find(|folder| folder.exists())?;
    why_not_writable(existing).map(|reason| format!("{}: {reason}", existing.display()))
}

/// The bytes that are free for the process.
fn free_space(path: &Path) -> Option<u64> {
    let system = statvfs(path).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}
