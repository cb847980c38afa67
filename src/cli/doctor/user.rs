//! The user that the service runs as. The checks need its rights.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Uid, User, initgroups, setgid, setuid};

use super::diagnosis::Diagnosis;
use super::{is_shipped, user_name};
use crate::settings::Installation;

/// The user of the shipped unit.
const SERVICE_USER: &str = "tokenkeep";

/// Whose rights the checks use.
#[derive(Debug)]
pub(super) enum ServiceUser {
    /// Those of the service's user, as which the process was started.
    Same,
    /// Those of the service's user, which root has switched to.
    Switched { user: String },
    /// Others.
    Different { service: String },
    /// The service's user cannot be determined.
    Unknown,
}

/// The user that the service runs as: the shipped unit's user, else the owner of `state_dir`. `Err`:
/// a user without an entry in the user database. `None` if it cannot be determined.
pub(in crate::cli) fn service_user(
    state_dir: &Path,
    installation: &Installation,
) -> Option<Result<User, Uid>> {
    let known = |uid| User::from_uid(uid).ok().flatten().ok_or(uid);
    if installation.is_user() {
        return Some(known(Uid::effective()));
    }
    let shipped = if is_shipped(installation) { User::from_name(SERVICE_USER) } else { Ok(None) };
    let owner = || Some(known(Uid::from_raw(fs::metadata(state_dir).ok()?.uid())));
    shipped.ok().flatten().map(Ok).or_else(owner)
}

/// Finds out the service's user, and switches to it if this process runs as root. There must be
/// no other thread yet.
pub(super) fn become_service_user(state_dir: &Path, installation: &Installation) -> ServiceUser {
    let own = Uid::effective();
    let service = match service_user(state_dir, installation) {
        Some(Ok(user)) => user,
        Some(Err(uid)) if uid == own => return ServiceUser::Same,
        Some(Err(uid)) => return ServiceUser::Different { service: user_name(uid) },
        None => return ServiceUser::Unknown,
    };
    if service.uid == own {
        return ServiceUser::Same;
    }
    let name = user_name(service.uid);
    if own.is_root() && switch_to(&service).is_ok() {
        ServiceUser::Switched { user: name }
    } else {
        ServiceUser::Different { service: name }
    }
}

fn switch_to(user: &User) -> Result<(), Box<dyn std::error::Error>> {
    let name = std::ffi::CString::new(user.name.as_str())?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    Ok(())
}

/// Reports whose rights the checks use.
pub(super) fn report(user: ServiceUser, diagnosis: &Diagnosis) {
    let own = user_name(Uid::effective());
    match user {
        ServiceUser::Same => diagnosis.ok(format!("runs as the service's user, {own}")),
        ServiceUser::Switched { user } => {
            diagnosis.ok(format!("was started as root; the checks use the rights of {user}"));
        }
        ServiceUser::Different { service } => diagnosis.warning(format!(
            "runs as {own}, but the service runs as {service}: rights were checked for the wrong \
             user; run it as root or as that user"
        )),
        ServiceUser::Unknown => diagnosis.warning(format!(
            "runs as {own}; whether that is the service's user is unknown because `state_dir` does \
             not exist: run it as the service's user"
        )),
    }
}
