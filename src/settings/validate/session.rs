//! Whether servers, logins and refresh tokens of tokens and inventories fit together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::profile::Profile;

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::model::{
    InventorySource, KeepAlive, Parameter, Reauth, ReauthMethod, Server, Settings, Source, Token,
};
use super::super::raw::Raw;
use super::Validator;
use super::env_file::{folder_of_tokens, named_files};
use super::profile::{add, assumed_life};

/// A server, with a login that its tokens use.
struct Login<'a> {
    server: &'a Server,
    reauth: &'a Reauth,
    with: &'a BTreeMap<String, Parameter>,
    /// `[token.NAME]` or `[inventory.NAME]`, the first that uses both.
    table: String,
}

impl Validator<'_> {
    /// Checks each server with each of its logins, and the refresh token of each token.
    pub(super) fn check_sessions(&mut self, settings: &Settings, raw: &Raw) {
        let servers: HashMap<&str, &Server> =
            settings.servers.iter().map(|server| (server.name.as_str(), server)).collect();
        let reauths: HashMap<&str, &Reauth> =
            settings.reauths.iter().map(|reauth| (reauth.name.as_str(), reauth)).collect();
        let (mut seen, mut used, mut logins) = (HashSet::new(), BTreeSet::new(), Vec::new());
        let tokens = settings.tokens.iter().map(|token| ("token", &token.name, &token.keep_alive));
        let inventories = settings.inventories.iter();
        let inventories =
            inventories.map(|inventory| ("inventory", &inventory.name, &inventory.keep_alive));
        for (section, name, keep_alive) in tokens.chain(inventories) {
            let Some(server) = servers.get(keep_alive.server.as_str()).copied() else { continue };
            if !self.is_understood(server, raw) {
                continue;
            }
            used.insert(server.name.as_str());
            self.check_revocation(&join(section, name), keep_alive, server);
            self.warn_early_login(&join(section, name), keep_alive, server);
            let reauth = keep_alive.reauth.as_deref().and_then(|name| reauths.get(name).copied());
            let Some(reauth) = reauth else { continue };
            self.check_value_of_login(&join(section, name), server, reauth);
            if seen.insert((server.name.as_str(), reauth.name.as_str())) {
                logins.extend(self.login(join(section, name), server, reauth));
            }
        }
        self.check_logins(&logins, raw);
        for name in used {
            self.warn_assumed(servers[name]);
        }
        for token in &settings.tokens {
            if let Some(server) = servers.get(token.keep_alive.server.as_str())
                && self.is_understood(server, raw)
            {
                self.check_refresh(token, server);
            }
        }
        for inventory in &settings.inventories {
            if let InventorySource::Dir(_) = inventory.source
                && let Some(server) = servers.get(inventory.keep_alive.server.as_str())
                && self.is_understood(server, raw)
            {
                self.reject_directory(&inventory.name, server);
            }
        }
        self.reject_shared_refresh_tokens(settings);
    }

    /// Whether the profile of a server has no errors, or it needs none.
    fn is_understood(&self, server: &Server, raw: &Raw) -> bool {
        let is_native = |raw| self.is_native(&join("server", &server.name), raw);
        server.profile.is_some() || raw.server.get(&server.name).is_some_and(is_native)
    }

    fn check_revocation(&mut self, table: &str, keep_alive: &KeepAlive, server: &Server) {
        let Some(profile) = &server.profile else { return };
        if keep_alive.revoke_on_shutdown && profile.revoke.is_none() {
            let key = join(table, "revoke_on_shutdown");
            let message =
                format!("`{key}` has no effect: the profile {:?} has no `revoke`", profile.name);
            let remedy = "remove it, or add `revoke` to the profile";
            self.error((table, "revoke_on_shutdown"), ConfigErrorKind::Conflict, message, remedy);
        }
    }

    /// Warns about a login that never comes early, because no response says when the token ends.
    fn warn_early_login(&mut self, table: &str, keep_alive: &KeepAlive, server: &Server) {
        if keep_alive.reauth_before.is_none() || assumed_life(server).is_none() {
            return;
        }
        let method = keep_alive.reauth.as_ref().map(|name| join("reauth", name));
        let table = match method {
            Some(method) if !self.is_present(table, "reauth_before") => method,
            _ => table.to_owned(),
        };
        let message = format!(
            "`{}` has no effect: [{}] reports no life of a token, so that its end is unknown",
            join(&table, "reauth_before"),
            join("server", &server.name)
        );
        let remedy = "remove it: the login follows the death of the token";
        self.warning((&table, "reauth_before"), WarningKind::AssumedLife, message, remedy);
    }

    /// The login of `reauth` on `server`; `None` if it is a command, or impossible.
    fn login<'a>(
        &mut self,
        table: String,
        server: &'a Server,
        reauth: &'a Reauth,
    ) -> Option<Login<'a>> {
        let native = join("server", &server.name);
        let (message, remedy) = match (&reauth.method, server.profile.as_deref()) {
            (ReauthMethod::Login { with, .. }, Some(Profile { login: Some(_), .. })) => {
                return Some(Login { server, reauth, with, table });
            }
            (ReauthMethod::Command(_), _) | (ReauthMethod::ApiKey { .. }, None) => return None,
            (ReauthMethod::Login { .. }, Some(profile)) => (
                format!("logs in by the server's profile, but {:?} has no `login`", profile.name),
                "add `login` to the profile, or use a `command`".to_owned(),
            ),
            (ReauthMethod::Login { .. }, None) => (
                format!("logs in by the server's profile, but [{native}] has no `profile`"),
                "use `api_key_file` or `api_key_credential`, or add `profile` to the server"
                    .to_owned(),
            ),
            (ReauthMethod::ApiKey { .. }, Some(profile)) => (
                format!("has an API key, but [{native}] has the profile {:?}", profile.name),
                format!(
                    "write login = true in [{}], with the parameters of the login in `with`",
                    join("reauth", &reauth.name)
                ),
            ),
        };
        let message = format!("`{}`: {:?} {message}", join(&table, "reauth"), reauth.name);
        self.error((&table, "reauth"), ConfigErrorKind::Conflict, message, remedy);
        None
    }

    /// Checks that logins have the parameters that they need, and no others.
    fn check_logins(&mut self, logins: &[Login<'_>], raw: &Raw) {
        let mut known: BTreeMap<&str, (BTreeSet<&str>, &Login<'_>)> = BTreeMap::new();
        for login in logins {
            let Login { server, reauth, table, .. } = login;
            let Some(profile) = server.profile.as_deref() else { continue };
            let needed = profile.login.iter().flat_map(|call| call.parameters());
            let (of_all, _) = known.entry(&reauth.name).or_insert_with(|| (BTreeSet::new(), login));
            let method = join("reauth", &reauth.name);
            for name in needed {
                of_all.insert(name);
                let of_method = raw.reauth.get(&reauth.name).and_then(|raw| raw.with.as_ref());
                let of_server = raw.server.get(&server.name).and_then(|raw| raw.with.as_ref());
                let server = join("server", &server.name);
                if self.has_parameter(&method, of_method, name)
                    || self.has_parameter(&server, of_server, name)
                {
                    continue;
                }
                let message = format!(
                    "[{method}] has no parameter `{name}`, which `login` of the profile {:?} needs \
                     for [{table}]",
                    profile.name
                );
                self.error((&method, "with"), ConfigErrorKind::Missing, message, add(name));
            }
        }
        for (name, (known, Login { server, with, .. })) in known {
            let profile = server.profile.as_ref().map_or("", |profile| &profile.name);
            self.reject_unused_parameters(&join("reauth", name), with, &known, profile);
        }
    }

    /// Checks that the value of a login can be renewed. If only a refresh token can do that, the
    /// login must return one, or its command must write one.
    fn check_value_of_login(&mut self, table: &str, server: &Server, reauth: &Reauth) {
        let Some(profile) = server.profile.as_deref().filter(|it| it.needs_refresh_token()) else {
            return;
        };
        let (problem, remedy) = match (&reauth.method, &profile.login) {
            (ReauthMethod::Login { .. }, Some(login)) if login.refresh.is_none() => (
                "`login` of the profile has no `refresh`",
                "add `refresh` to `login`, the place of the new refresh token, or add a `query`",
            ),
            (ReauthMethod::Command(_), _) if !self.has_refresh_file(table) => (
                "its command has no file for a new refresh token",
                "add refresh = { file = \"/path\" } and write the new one there, or add a `query`",
            ),
            _ => return,
        };
        let message = format!(
            "`{}`: {:?} cannot replace a token, because the profile {:?} can only renew with a \
             refresh token, and {problem}",
            join(table, "reauth"),
            reauth.name,
            profile.name
        );
        self.error((table, "reauth"), ConfigErrorKind::Conflict, message, remedy);
    }

    fn has_refresh_file(&self, table: &str) -> bool {
        self.is_present(&join(table, "refresh"), "file")
    }

    fn reject_directory(&mut self, name: &str, server: &Server) {
        let Some(profile) = server.profile.as_deref().filter(|it| it.needs_refresh_token()) else {
            return;
        };
        let table = join("inventory", name);
        let message = format!(
            "`{}` has tokens without a refresh token, but the profile {:?} can only renew with one",
            join(&table, "dir"),
            profile.name
        );
        let remedy = "use a `file` or `command` whose lines have a \"refresh\", or add a `query` to \
                      the profile";
        self.error((&table, "dir"), ConfigErrorKind::Conflict, message, remedy);
    }

    /// Checks that a token has a refresh token if, and only if, it can be used.
    fn check_refresh(&mut self, token: &Token, server: &Server) {
        let table = join("token", &token.name);
        let key = join(&table, "refresh");
        let Some(profile) = &server.profile else {
            if token.refresh.is_some() {
                let message = format!(
                    "`{key}` has no effect: [{}] has no `profile` with refresh tokens",
                    join("server", &server.name)
                );
                let remedy = "remove it, or add a `profile` such as \"oauth2\" to the server";
                self.error((&table, "refresh"), ConfigErrorKind::Conflict, message, remedy);
            }
            return;
        };
        if token.refresh.is_some() && !profile.renews_with_refresh_token() {
            let message = format!(
                "`{key}` has no effect: the profile {:?} does not renew with a refresh token",
                profile.name
            );
            self.error((&table, "refresh"), ConfigErrorKind::Conflict, message, "remove it");
        }
        if profile.needs_refresh_token() && !self.is_present(&table, "refresh") {
            let message = format!(
                "[{table}] has no `refresh`, but the profile {:?} can only renew with a refresh \
                 token",
                profile.name
            );
            let remedy = "add refresh = { file = \"/path\" }";
            self.error((&table, "refresh"), ConfigErrorKind::Missing, message, remedy);
        }
    }

    /// Rejects refresh tokens whose source is also that of something else: two renewals with one
    /// refresh token can end the whole family of tokens, and its file is overwritten.
    fn reject_shared_refresh_tokens(&mut self, settings: &Settings) {
        if settings.tokens.iter().all(|token| token.refresh.is_none()) {
            return;
        }
        let mut sources: HashMap<Source, String> = named_files(settings)
            .into_iter()
            .map(|(path, key)| (Source::File(path.to_owned()), key))
            .collect();
        for token in &settings.tokens {
            let table = join("token", &token.name);
            match &token.source {
                Source::File(_) => {}
                Source::Credential(_) => {
                    sources.insert(token.source.clone(), join(&table, "credential"));
                }
                Source::Env(_) => {
                    sources.insert(token.source.clone(), join(&table, "env"));
                }
            }
            if let Some(file) = &token.env_file {
                sources.insert(Source::File(file.path.clone()), join(&table, "env_file"));
            }
        }
        for token in &settings.tokens {
            let Some(refresh) = &token.refresh else { continue };
            let table = join("token", &token.name);
            let key = join(&table, "refresh");
            let other = sources.insert(refresh.clone(), key.clone());
            let folder = || match refresh {
                Source::File(path) => folder_of_tokens(path, settings),
                Source::Credential(_) | Source::Env(_) => None,
            };
            let Some(other) = other.or_else(folder) else { continue };
            self.error(
                (&table, "refresh"),
                ConfigErrorKind::Conflict,
                format!("`{key}` is already used by `{other}`"),
                "give the refresh token a source of its own: it is replaced at each renewal, and \
                 a second use of it can end all tokens that came from it",
            );
        }
    }
}
