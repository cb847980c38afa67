//! `env_file`s: their folders, groups and contents.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::CheckProgress;
use super::diagnosis::Diagnosis;
use super::files::why_not_writable;
use super::sandbox::DropIns;
use crate::settings::{EnvFile, Settings};
use crate::token_source::check_env_file;
use crate::users::find_gid;

/// Write access of every user to a directory.
const OTHERS_WRITE: u32 = 0o002;

/// Warnings that need no rights: for `check-config` too. Queries the user database, which may block.
pub(in crate::cli) fn warnings(settings: &Settings) -> Vec<String> {
    let tokens = settings.tokens.iter();
    let files = tokens.filter_map(|token| Some((&*token.name, token.env_file.as_ref()?)));
    files.flat_map(|(name, file)| warnings_of(name, file)).collect()
}

fn warnings_of(name: &str, file: &EnvFile) -> Vec<String> {
    let key = format!("`token.{name}.env_file`, {}", file.path.display());
    let mut warnings = Vec::new();
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    match fs::metadata(folder) {
        Ok(folder) if folder.permissions().mode() & OTHERS_WRITE != 0 => warnings.push(format!(
            "{key}: every user of this machine may write to its folder, and so can put another \
             token or a link there; use a folder that only the service's user may write to"
        )),
        Ok(_) => {}
        // A folder that this user may not examine may be right for the service's user.
        Err(_) if folder.try_exists().unwrap_or(true) => {}
        Err(_) => warnings.push(format!(
            "{key}: its folder does not exist; create it, writable by the service's user"
        )),
    }
    let key = format!("`token.{name}.env_group`");
    match file.group.as_deref().map(|group| (group, find_gid(group))) {
        None | Some((_, Ok(Some(_)))) => {}
        Some((group, Ok(None))) => warnings
            .push(format!("{key}: there is no group {group}; create it, or correct the name")),
        Some((group, Err(error))) => warnings.push(format!(
            "{key}: the database of groups cannot be read ({error}); check `getent group {group}`"
        )),
    }
    warnings
}

/// Checks that each `env_file` can be written.
pub(super) fn check(
    settings: &Settings,
    drop_ins: Option<&DropIns>,
    steps: &CheckProgress,
    diagnosis: &Diagnosis,
) {
    for token in &settings.tokens {
        let Some(file) = &token.env_file else { continue };
        let key = format!("token.{}.env_file", token.name);
        steps.begin(format!("`{key}`"));
        for warning in warnings_of(&token.name, file) {
            diagnosis.warning(warning);
        }
        if let Err(error) = check_env_file(file) {
            diagnosis.error(format!("`{key}`, {error}"));
        }
        let folder = file.path.parent().filter(|folder| folder.exists());
        if let Some((folder, reason)) =
            folder.and_then(|folder| Some((folder, why_not_writable(folder)?)))
        {
            diagnosis.error(format!(
                "`{key}`, {}: {reason}: applications would not get new values; let the service's \
                 user write to this directory",
                folder.display()
            ));
        }
        if let Some(drop_ins) = drop_ins {
            drop_ins.check(&format!("`{key}`"), &file.path, true, settings, diagnosis);
        }
    }
}
