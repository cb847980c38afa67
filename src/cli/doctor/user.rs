//! The user that the service runs as. The checks need its rights.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Uid, User, initgroups, setgid, setuid};

use super::diagnosis::Diagnosis;
use super::user_name;
use crate::settings::DEFAULT_PATH;

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

/// Finds out the service's user, and switches to it if this process runs as root. There must be
/// no other thread yet.
pub(super) fn become_service_user(state_dir: &Path, config: &Path) -> ServiceUser {
    let own = Uid::effective();
    let named = || User::from_name(SERVICE_USER).ok().flatten();
    let shipped = if config == Path::new(DEFAULT_PATH) { named() } else { None };
    let owner = || {
        let owner = Uid::from_raw(fs::metadata(state_dir).ok()?.uid());
        User::from_uid(owner)
            .ok()
            .flatten()
            .ok_or(owner)
            .map_or_else(|uid| Some(Err(uid)), |user| Some(Ok(user)))
    };
    let service = match shipped.map(Ok).or_else(owner) {
        Some(Ok(user)) => user,
        // The owner of the state directory has no entry in the user database.
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
