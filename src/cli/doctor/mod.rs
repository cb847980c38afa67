//! `doctor`: checks the environment of the daemon: files, permissions, mounts, programs, limits, the
//! clock and the servers. Changes nothing.
//!
//! Each check adds findings to a [`Diagnosis`]. The checks use the functions that the daemon
//! itself reads sources and queries servers with.

mod cluster;
mod diagnosis;
pub(super) mod env_files;
mod files;
mod parameters;
mod programs;
mod sandbox;
mod servers;
mod system;
mod user;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use clap::Args;
use nix::unistd::Uid;

use self::diagnosis::Diagnosis;
use self::files::Value;
use self::sandbox::DropIns;
pub(super) use self::user::service_user;
use super::diagnostics::DiagnosticStyle;
use super::inventory_summary;
use super::unit::{self, variable};
use super::{CliError, eprint_text, print_text, runtime};
use crate::api::{HeaderLine, WebhookClient};
use crate::control;
use crate::daemon::control::GROUP;
use crate::settings::{
    ConfigErrors, Installation, InventorySource, KeySource, Loaded, Notify, NotifyTarget, Reauth,
    ReauthMethod, Settings, Webhook,
};
use crate::text::format_duration;
use crate::token_source::{DISK_TIMEOUT, Found, read_key, read_line};

/// Exit status if there are only warnings.
const EX_WARNINGS: u8 = 1;
/// Exit status if something will fail.
pub(super) const EX_ERRORS: u8 = 2;

/// Check everything that the daemon depends on: files and rights, commands, limits, the clock,
/// servers
///
/// Prints one line with a remedy for each finding. Exits 0 without findings, 1 with warnings
/// only, 2 if something will fail. Changes nothing. Run as root, it continues with the rights of
/// the service's user.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Do not contact any server or name service
    #[arg(long)]
    offline: bool,
}

/// Runs all checks and prints the findings.
pub(super) fn run(
    doctor: &Doctor,
    installation: &Installation,
    style: DiagnosticStyle,
) -> Result<(), CliError> {
    let diagnosis = Arc::new(Diagnosis::default());
    let (loaded, service_user) = match load(installation) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprint_text(&style.faults(&faults));
            return Err(CliError::AlreadyReported { status: EX_ERRORS });
        }
    };
    for warning in &loaded.warnings {
        let (place, message) = (&warning.location, &warning.message);
        diagnosis.warning(format!("{place}: {message}; {}", warning.remedy));
    }
    user::report(service_user, &diagnosis);
    let loaded = Arc::new(loaded);
    let is_shipped_unit = is_shipped(installation);
    if let Some(values) = check_locally(&loaded, is_shipped_unit, &diagnosis)? {
        let runtime = runtime()?;
        let settings = &loaded.settings;
        runtime.block_on(async {
            servers::check(settings, &values, doctor.offline, &diagnosis).await;
            if let Some(cluster) = settings.cluster.as_ref().filter(|_| !doctor.offline) {
                cluster::check(cluster, &diagnosis).await;
            }
        });
        // A name lookup that hangs must not delay the end.
        runtime.shutdown_background();
    }
    print_text(&diagnosis.to_string())?;
    match (diagnosis.errors(), diagnosis.warnings()) {
        (0, 0) => Ok(()),
        (0, _) => Err(CliError::AlreadyReported { status: EX_WARNINGS }),
        _ => Err(CliError::AlreadyReported { status: EX_ERRORS }),
    }
}

/// Message from the thread of the local checks.
enum Progress {
    /// A check begins.
    Begun(String),
    /// All checks have ended.
    Done(Vec<Value>),
}

/// Reports which check has begun, so that a hung check can be named.
struct CheckProgress(Sender<Progress>);

impl CheckProgress {
    fn begin(&self, what: impl Into<String>) {
        // The receiver is gone once a check has hung.
        let _ = self.0.send(Progress::Begun(what.into()));
    }
}

/// Runs the checks that need no server in a separate thread, because a hung file system blocks it.
/// Returns the readable token values; `None` if a check hangs.
fn check_locally(
    loaded: &Arc<Loaded>,
    is_shipped_unit: bool,
    diagnosis: &Arc<Diagnosis>,
) -> Result<Option<Vec<Value>>, CliError> {
    let (sender, receiver) = channel();
    let checks = {
        let (loaded, diagnosis) = (Arc::clone(loaded), Arc::clone(diagnosis));
        move || {
            let steps = CheckProgress(sender);
            let settings = &loaded.settings;
            steps.begin("`state_dir`");
            files::state_directory(&settings.state_dir, &diagnosis);
            steps.begin("`control.socket`");
            files::socket(&settings.control.socket, &diagnosis);
            let drop_ins = is_shipped_unit.then(DropIns::read);
            let drop_ins = drop_ins.as_ref();
            let values = files::tokens(settings, drop_ins, &steps, &diagnosis);
            env_files::check(settings, drop_ins, &steps, &diagnosis);
            steps.begin("inventories");
            inventories(settings, &diagnosis);
            steps.begin("`with`");
            parameters::check(settings, &diagnosis);
            if let Some(cluster) = &settings.cluster {
                steps.begin("[cluster]");
                cluster::check_locally(cluster, &diagnosis);
            }
            for reauth in &settings.reauths {
                steps.begin(format!("[reauth.{}]", reauth.name));
                check_reauth(reauth, &diagnosis);
            }
            for notify in &settings.notifies {
                steps.begin(format!("[notify.{}]", notify.name));
                check_notify(notify, &diagnosis);
            }
            steps.begin("`readers`");
            for warning in control::unusable_readers(settings, GROUP) {
                diagnosis.warning(warning);
            }
            steps.begin("limits and clock");
            system::limits(settings, &diagnosis);
            system::clock(&loaded.files, &diagnosis);
            let _ = steps.0.send(Progress::Done(values));
        }
    };
    std::thread::Builder::new()
        .spawn(checks)
        .map_err(|error| CliError::System { doing: "starting a thread", error })?;
    let mut step = String::new();
    loop {
        match receiver.recv_timeout(DISK_TIMEOUT) {
            Ok(Progress::Begun(next)) => step = next,
            Ok(Progress::Done(values)) => return Ok(Some(values)),
            Err(_) => {
                diagnosis.error(format!(
                    "{step}: the check has not ended within {}: a disk or the user database does \
                     not respond; make it available. Later checks were skipped",
                    format_duration(DISK_TIMEOUT)
                ));
                return Ok(None);
            }
        }
    }
}

/// Loads the configuration, then switches to the service's user if possible. A second load checks
/// that this user can read the configuration.
fn load(installation: &Installation) -> Result<(Loaded, user::ServiceUser), ConfigErrors> {
    let overrides = unit::overrides(installation);
    let load = || installation.load(unit::environment(&overrides));
    let loaded = load()?;
    let user = user::become_service_user(&loaded.settings.state_dir, installation);
    let loaded = match user {
        user::ServiceUser::Switched { .. } => load()?,
        _ => loaded,
    };
    Ok((loaded, user))
}

/// Whether the shipped unit of the system runs this installation.
fn is_shipped(installation: &Installation) -> bool {
    !installation.is_user() && installation.config() == installation.default_config()
}

/// Whether the check runs outside the unit, which credentials and variables depend on.
fn is_outside_unit() -> bool {
    variable("CREDENTIALS_DIRECTORY").is_none()
}

fn inventories(settings: &Settings, diagnosis: &Diagnosis) {
    for summary in inventory_summary::summarize(settings) {
        let name = &summary.inventory.name;
        for remark in &summary.remarks {
            let text = format!("[inventory.{name}] {remark}");
            if summary.failed { diagnosis.error(text) } else { diagnosis.warning(text) }
        }
        if let InventorySource::Command { command, .. } = &summary.inventory.source {
            programs::check(&format!("inventory.{name}.command"), command, diagnosis);
        }
    }
}

fn check_reauth(reauth: &Reauth, diagnosis: &Diagnosis) {
    let name = &reauth.name;
    match &reauth.method {
        ReauthMethod::Command(command) => {
            programs::check(&format!("reauth.{name}.command"), command, diagnosis);
        }
        ReauthMethod::ApiKey { key, .. } => match read_key(key, &variable) {
            Ok(Found { warnings, .. }) => warnings
                .iter()
                .for_each(|warning| diagnosis.warning(format!("[reauth.{name}] {warning}"))),
            Err(fault) => {
                let text = format!("[reauth.{name}] API key: {fault}");
                files::unreadable(&fault.kind, text, diagnosis);
            }
        },
        // Its parameters are checked with those of the servers.
        ReauthMethod::Login { .. } => {}
    }
}

fn check_notify(notify: &Notify, diagnosis: &Diagnosis) {
    let name = &notify.name;
    match &notify.target {
        NotifyTarget::Command(command) => {
            programs::check(&format!("notify.{name}.command"), command, diagnosis);
        }
        NotifyTarget::Webhook(webhook) => {
            if let Some(credential) = &webhook.header_credential {
                let key = format!("`notify.{name}.webhook_header_credential`");
                match read_line(credential, &variable) {
                    Ok(line) if HeaderLine::parse(&line).is_some() => {}
                    Ok(_) => diagnosis.error(format!(
                        "{key}: the credential must contain one header line, such as \
                         `Authorization: Bearer ...`"
                    )),
                    Err(error) => {
                        files::unreadable(&error.kind, format!("{key}: {error}"), diagnosis);
                    }
                }
            }
            if let Err(error) = WebhookClient::new(name, webhook, notify.timeout) {
                diagnosis.error(error);
            }
        }
    }
}

/// Programs, key files and directories of `settings` that do not exist, in sentences: as much as
/// `check-config` can say, which may run as any user and before the service does.
pub(super) fn missing_files(settings: &Settings) -> Vec<String> {
    let mut missing_files = Vec::new();
    // Relative paths have a warning of their own.
    let is_absent = |path: &Path| path.is_absolute() && !path.try_exists().unwrap_or(true);
    for reauth in &settings.reauths {
        let name = &reauth.name;
        match &reauth.method {
            ReauthMethod::Command(command) => {
                let missing = programs::missing_program(command);
                missing_files
                    .extend(missing.map(|text| format!("`reauth.{name}.command`, {text}")));
            }
            ReauthMethod::ApiKey { key: KeySource::File(path), .. } if is_absent(path) => {
                missing_files.push(format!(
                    "`reauth.{name}.api_key_file`, {}: there is no such file; put the key there, \
                     alone on one line",
                    path.display()
                ));
            }
            ReauthMethod::ApiKey { .. } | ReauthMethod::Login { .. } => {}
        }
    }
    for (key, path) in parameters::files(settings).filter(|(_, path)| is_absent(path)) {
        missing_files.push(format!(
            "`{key}`, {}: there is no such file; put the value there, alone on one line",
            path.display()
        ));
    }
    for inventory in &settings.inventories {
        if let InventorySource::Command { command, .. } = &inventory.source {
            let missing = programs::missing_program(command);
            let key = format!("`inventory.{}.command`", inventory.name);
            missing_files.extend(missing.map(|text| format!("{key}, {text}")));
        }
    }
    for Notify { name, target, .. } in &settings.notifies {
        match target {
            NotifyTarget::Command(command) => {
                let missing = programs::missing_program(command);
                missing_files
                    .extend(missing.map(|text| format!("`notify.{name}.command`, {text}")));
            }
            NotifyTarget::Webhook(Webhook { ca_file: Some(path), .. }) if is_absent(path) => {
                missing_files.push(format!(
                    "`notify.{name}.ca_file`, {}: there is no such file; put the authority's \
                     certificate there",
                    path.display()
                ));
            }
            NotifyTarget::Webhook(_) => {}
        }
    }
    let state_dir = &settings.state_dir;
    if is_absent(state_dir) {
        missing_files.push(format!(
            "`state_dir`, {}: there is no such directory; the daemon tries to create it, or create \
             it for the service's user with mode 0700",
            state_dir.display()
        ));
    }
    missing_files
}

/// The name and number of a user, for messages.
pub(super) fn user_name(uid: Uid) -> String {
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}
