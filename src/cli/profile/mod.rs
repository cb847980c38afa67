//! `profile`: lists the profiles of APIs, or prints one. Finds the profile that an option names, for
//! other commands.

mod file;
mod parameters;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command};

pub(super) use self::parameters::{
    check_known as check_parameters, parse as parse_parameters, refuse_secrets,
};
use super::{CliError, eprint_message, mask_values, print, print_text, unit};
use crate::profile::{BUILTIN, Builtin, Profile, builtin};
use crate::secret::mask;
use crate::settings::{ConfiguredProfile, Installation};
use crate::similarity::suggest;

/// The profile that is native, not interpreted.
pub(super) const NATIVE: &str = "sarus";

/// List the profiles of APIs, or print one as TOML
///
/// Lists the built-in profiles. The TOML of a profile can be copied into the configuration as the
/// beginning of one of your own.
#[derive(Debug, Args)]
pub(super) struct ShowProfile {
    /// The profile to print
    #[arg(value_name = "PROFILE", value_parser = ProfileName, hide_possible_values = true)]
    profile: Option<String>,
}

/// `--profile` and `--with` of other commands.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// API of the server: the name of a profile, as `tokenkeep profile` lists them. `probe` also
    /// takes the path of a TOML file with one [profile.NAME]
    #[arg(
        long,
        value_name = "PROFILE",
        value_parser = ProfileName,
        hide_possible_values = true,
        default_value = NATIVE
    )]
    pub(super) profile: String,
    /// Parameter of the profile. KEY=@FILE takes the value from a file: other users can read the
    /// arguments of a command, so write secrets that way
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) with: Vec<String>,
}

/// Any text. Shells complete the names of the built-in profiles.
#[derive(Debug, Clone, Copy)]
struct ProfileName;

impl TypedValueParser for ProfileName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |builtin: &Builtin| PossibleValue::new(builtin.name).help(builtin.description);
        Some(Box::new(BUILTIN.iter().map(value)))
    }
}

impl ShowProfile {
    /// Runs the command.
    pub(super) fn run(&self, installation: &Installation) -> Result<(), CliError> {
        match &self.profile {
            None => print_text(&list(&configured(installation))),
            Some(name) => print(&text(name, installation)?),
        }
    }
}

/// All profiles, one on each line.
fn list(configured: &[ConfiguredProfile]) -> String {
    let built_in = BUILTIN.iter().map(|builtin| (builtin.name, builtin.description));
    let is_replaced = |name: &str| configured.iter().any(|known| known.profile.name == name);
    let built_in = built_in.filter(|(name, _)| !is_replaced(name));
    let others = configured.iter().map(|known| (&*known.profile.name, "of the configuration"));
    let all: Vec<_> = built_in.chain(others).collect();
    let width = all.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let lines: Vec<_> =
        all.iter().map(|(name, about)| format!("{name:<width$}  {about}")).collect();
    lines.join("\n") + "\n"
}

/// The TOML of a profile.
fn text(name: &str, installation: &Installation) -> Result<String, CliError> {
    let configured = configured(installation);
    if let Some(known) = configured.iter().find(|known| known.profile.name == name) {
        let tables = BTreeMap::from([("profile", BTreeMap::from([(name, &known.table)]))]);
        return toml::to_string(&tables)
            .map(|text| mask_values(&text))
            .map_err(|error| CliError::Usage(format!("the profile cannot be written: {error}")));
    }
    let built_in = BUILTIN.iter().find(|built_in| built_in.name == name);
    built_in.map(|built_in| built_in.toml.to_owned()).ok_or_else(|| unknown(name, &configured))
}

/// Finds the profile that `--profile` names; `None` for the native one.
pub(super) fn find(
    name: &str,
    installation: &Installation,
) -> Result<Option<Arc<Profile>>, CliError> {
    if name == NATIVE {
        return Ok(None);
    }
    if is_file(name) {
        return file::read(Path::new(name)).map(|profile| Some(Arc::new(profile)));
    }
    let configured = configured(installation);
    let known = configured.iter().find(|known| known.profile.name == name);
    let profile = known.map(|known| Arc::clone(&known.profile)).or_else(|| builtin(name));
    profile.map(Some).ok_or_else(|| unknown(name, &configured))
}

/// Whether `--profile` names a file.
pub(super) fn is_file(name: &str) -> bool {
    name.contains('/') || Path::new(name).extension().is_some_and(|extension| extension == "toml")
}

/// The profiles of the configuration; none if there is no configuration, or if it has errors.
fn configured(installation: &Installation) -> Vec<ConfiguredProfile> {
    let config = installation.config();
    if config.symlink_metadata().is_err() {
        return Vec::new();
    }
    match installation.load(unit::environment(&unit::overrides(installation))) {
        Ok(loaded) => loaded.settings.profiles,
        Err(errors) => {
            eprint_message(&format!(
                "warning: the configuration has errors, so its profiles are not known: {}",
                errors.first_line()
            ));
            Vec::new()
        }
    }
}

fn unknown(name: &str, configured: &[ConfiguredProfile]) -> CliError {
    let names = BUILTIN.iter().map(|built_in| built_in.name);
    let names = names.chain(configured.iter().map(|known| &*known.profile.name));
    let remedy = match suggest(name, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}.", names.collect::<Vec<_>>().join(", ")),
    };
    let name = mask(name);
    CliError::Usage(format!(
        "there is no profile `{name}`; {remedy} A profile in a file needs its path, like ./mine.toml"
    ))
}
