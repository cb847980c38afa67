//! `[profile.NAME]`, the profile of a server, and its parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::lifecycle::Renewal;
use crate::profile::{self, BUILTIN, Profile, ProfileError, ProfileErrorKind};
use crate::secret::looks_secret;
use crate::similarity::suggest;
use crate::text::{format_duration, shortened};

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::model::{ConfiguredProfile, Parameter, Server, Source};
use super::super::raw::{Raw, RawParameter, RawServer, RawSource};
use super::super::schema::RENEWALS;
use super::super::suggestions::where_secrets_belong;
use super::{Validator, chosen};

/// The API that is spoken without a profile.
const NATIVE: &str = "sarus";

impl Validator<'_> {
    /// The valid ones of the configured profiles.
    pub(super) fn profiles(&mut self, raw: &Raw) -> Vec<ConfiguredProfile> {
        let mut profiles = Vec::new();
        for (name, table) in &raw.profile {
            let path = join("profile", name);
            if name == NATIVE {
                let message = format!("[{path}] has the name of the API that needs no profile");
                let remedy = "give it another name, and write that as the server's `profile`";
                let position = self.table_position(&path);
                self.collector.error(position, ConfigErrorKind::Conflict, message, remedy);
            }
            match profile::parse(name, table) {
                Ok(profile) => profiles
                    .push(ConfiguredProfile { profile: Arc::new(profile), table: table.clone() }),
                Err(errors) => {
                    let is_built_in = profile::builtin(name).is_some();
                    for mut error in errors {
                        if is_built_in && error.kind == ProfileErrorKind::Missing {
                            error.remedy += &format!(
                                "; [{path}] replaces the built-in profile as a whole: copy that \
                                 from `tokenkeep profile {name}`"
                            );
                        }
                        self.profile_error(&path, error);
                    }
                }
            }
        }
        profiles
    }

    fn profile_error(&mut self, profile: &str, error: ProfileError) {
        let ProfileError { kind, key, message, remedy } = error;
        let kind = match kind {
            ProfileErrorKind::UnknownKey => ConfigErrorKind::UnknownKey,
            ProfileErrorKind::WrongType => ConfigErrorKind::WrongType,
            ProfileErrorKind::BadValue => ConfigErrorKind::BadValue,
            ProfileErrorKind::Missing => ConfigErrorKind::Missing,
            ProfileErrorKind::Conflict => ConfigErrorKind::Conflict,
        };
        let path = if key.is_empty() { profile.to_owned() } else { format!("{profile}.{key}") };
        let subject = if key.is_empty() { format!("[{path}]") } else { format!("`{path}`") };
        let position = self.positions.innermost(&path);
        self.collector.error(position, kind, format!("{subject} {message}"), remedy);
    }

    /// The profile that `profile` of a server names. `None` if it is the native API or not usable.
    pub(super) fn server_profile(
        &mut self,
        table: &str,
        raw: &RawServer,
        configured: &[ConfiguredProfile],
    ) -> Option<Arc<Profile>> {
        let name = raw.profile.as_deref().filter(|name| *name != NATIVE)?;
        if let Some(known) = configured.iter().find(|known| known.profile.name == name) {
            return Some(known.profile.clone());
        }
        // A configured profile replaces the built-in one of the same name, also if it has errors.
        if self.positions.get(&join("profile", name)).is_some() {
            return None;
        }
        let built_in = profile::builtin(name);
        if built_in.is_none() {
            let known = configured.iter().map(|known| known.profile.name.as_str());
            let known: BTreeSet<&str> =
                known.chain(BUILTIN.iter().map(|built_in| built_in.name)).collect();
            let remedy = match suggest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if looks_secret(name) => where_secrets_belong("profile", table).to_owned(),
                None => {
                    let known: Vec<&str> = known.into_iter().collect();
                    let path = join("profile", name);
                    format!("write one of {}, or define [{path}]", known.join(", "))
                }
            };
            let message = format!(
                "`{}` names {}, but there is no such profile",
                join(table, "profile"),
                shortened(name)
            );
            self.error((table, "profile"), ConfigErrorKind::UnknownName, message, remedy);
        }
        built_in
    }

    /// The request that is used as the check of a server.
    pub(super) fn renewal(
        &mut self,
        table: &str,
        raw: &RawServer,
        profile: Option<&Profile>,
    ) -> Renewal {
        let written = chosen(raw.renewal.as_deref(), &RENEWALS);
        let Some(profile) = profile else { return written.unwrap_or_default() };
        let (only, missing) = match (&profile.query, &profile.renew) {
            (Some(_), Some(_)) => return written.unwrap_or(profile.renewal),
            (Some(_), None) => (Renewal::Query, Renewal::Renew),
            (None, _) => (Renewal::Renew, Renewal::Query),
        };
        if written == Some(missing) {
            let word = raw.renewal.as_deref().unwrap_or_default();
            let message = format!(
                "`{}` is {word:?}, but the profile {:?} has no `{word}`",
                join(table, "renewal"),
                profile.name
            );
            let remedy = "remove it: the call that the profile has is used";
            self.error((table, "renewal"), ConfigErrorKind::Conflict, message, remedy);
        }
        only
    }

    /// The parameters in `with` of a table.
    pub(super) fn parameters(
        &mut self,
        table: &str,
        raw: Option<&BTreeMap<String, RawParameter>>,
    ) -> BTreeMap<String, Parameter> {
        let mut parameters = BTreeMap::new();
        for (name, raw) in raw.into_iter().flatten() {
            let parameter = match raw {
                RawParameter::Text(text) => Some(Parameter::Text(text.clone())),
                RawParameter::Source(raw) => {
                    self.source(&join(&join(table, "with"), name), raw).map(|source| match source {
                        Source::File(file) => Parameter::File(file),
                        Source::Credential(name) => Parameter::Credential(name),
                        Source::Env(name) => Parameter::Env(name),
                    })
                }
            };
            parameters.extend(parameter.map(|parameter| (name.clone(), parameter)));
        }
        parameters
    }

    /// The source in the table at `path`.
    pub(super) fn source(&mut self, path: &str, raw: &RawSource) -> Option<Source> {
        self.require_exactly_one(path, &["file", "credential", "env"]);
        match (&raw.file, &raw.credential, &raw.env) {
            (Some(file), _, _) => Some(Source::File(file.into())),
            (_, Some(credential), _) => Some(Source::Credential(credential.clone())),
            (_, _, Some(variable)) => Some(Source::Env(variable.clone())),
            (None, None, None) => None,
        }
    }

    /// Whether the server in `table` is meant to need no profile.
    pub(super) fn is_native(&self, table: &str, raw: &RawServer) -> bool {
        match &raw.profile {
            Some(name) => name == NATIVE,
            None => !self.is_present(table, "profile"),
        }
    }

    /// Checks that a server has the parameters of its profile, and no others. Those of `login` may
    /// be in the `[reauth.NAME]` as well.
    pub(super) fn check_server_parameters(&mut self, server: &Server, raw: &RawServer) {
        let table = join("server", &server.name);
        let Some(profile) = &server.profile else {
            if self.is_present(&table, "with") && self.is_native(&table, raw) {
                let key = join(&table, "with");
                let (message, remedy) = if raw.profile.is_none() {
                    let remedy = "add profile = \"NAME\", or remove it";
                    (format!("`{key}` has no effect without `profile`"), remedy)
                } else {
                    let remedy = "remove it; an API key belongs into a [reauth.NAME]";
                    (format!("`{key}` has no effect: the API has no parameters"), remedy)
                };
                self.error((&table, "with"), ConfigErrorKind::Conflict, message, remedy);
            }
            return;
        };
        let calls = || profile.calls().filter(|(call, _)| *call != "login");
        for name in calls().flat_map(|(_, call)| call.parameters()).collect::<BTreeSet<_>>() {
            if !self.has_parameter(&table, raw.with.as_ref(), name) {
                let calls = calls().filter(|(_, call)| call.parameters().contains(name));
                let calls: Vec<_> = calls.map(|(call, _)| format!("`{call}`")).collect();
                let message = format!(
                    "[{table}] has no parameter `{name}`, which {} of the profile {:?} needs",
                    calls.join(", "),
                    profile.name
                );
                self.error((&table, "with"), ConfigErrorKind::Missing, message, add(name));
            }
        }
        let known = profile.calls().flat_map(|(_, call)| call.parameters()).collect();
        self.reject_unused_parameters(&table, &server.with, &known, &profile.name);
    }

    /// Whether `with` of a table has this parameter, or may have it because `with` was rejected.
    pub(super) fn has_parameter(
        &self,
        table: &str,
        with: Option<&BTreeMap<String, RawParameter>>,
        name: &str,
    ) -> bool {
        let is_rejected = with.is_none() && self.is_present(table, "with");
        is_rejected || self.is_present(&join(table, "with"), name)
    }

    /// Reports parameters that are not in `known`.
    pub(super) fn reject_unused_parameters(
        &mut self,
        table: &str,
        with: &BTreeMap<String, Parameter>,
        known: &BTreeSet<&str>,
        profile: &str,
    ) {
        let with_path = join(table, "with");
        for name in with.keys().filter(|name| !known.contains(name.as_str())) {
            let message = format!(
                "`{}` is used by no request of the profile {profile:?}",
                join(&with_path, name)
            );
            let remedy = match suggest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "remove it: the profile has no parameters".to_owned(),
                None => {
                    let known: Vec<&str> = known.iter().copied().collect();
                    format!("remove it; known here: {}", known.join(", "))
                }
            };
            self.error((&with_path, name), ConfigErrorKind::UnknownKey, message, remedy);
        }
    }

    /// Warns about servers with tokens whose life is assumed.
    pub(super) fn warn_assumed(&mut self, server: &Server) {
        let Some(assumed) = assumed_life(server) else { return };
        let table = join("server", &server.name);
        self.warning(
            (&table, "profile"),
            WarningKind::AssumedLife,
            format!(
                "[{table}] reports no life of a token: {} is assumed after each success, and \
                 renewal cannot be proven",
                format_duration(assumed)
            ),
            "make sure that `assume` of the profile is not longer than the shortest life, and that \
             the check renews the token",
        );
    }
}

/// The life that is assumed after each success; `None` if the server reports it.
pub(super) fn assumed_life(server: &Server) -> Option<Duration> {
    let profile = server.profile.as_ref()?;
    let reports_life = |call: &profile::Call| !call.life.is_empty();
    let is_reported = match (server.renewal, &profile.query, &profile.renew) {
        (Renewal::Query, Some(call), _) | (_, None, Some(call)) => reports_life(call),
        (_, _, renew) => renew.as_ref().is_some_and(reports_life),
    };
    profile.assume.filter(|_| !is_reported)
}

/// The remedy for the missing parameter `name`.
pub(super) fn add(name: &str) -> String {
    format!("add with = {{ {name} = \"...\" }}; for a secret {name} = {{ file = \"/path\" }}")
}
