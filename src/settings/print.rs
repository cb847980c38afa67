//! Prints the effective configuration as TOML that can be loaded again.

use std::collections::BTreeMap;
use std::path::Path;

use url::Url;

use crate::lifecycle::Schedule;

use super::model::{
    Cluster, EnvFile, Inventory, InventorySource, KeepAlive, KeySource, Notify, NotifyTarget,
    Parameter, Reauth, ReauthMethod, Server, Settings, Source, Token,
};
use super::raw::{
    Raw, RawCluster, RawControl, RawLog, RawNotify, RawParameter, RawReauth, RawSchedule,
    RawServer, RawSource, RawToken,
};
use super::schema::{LOG_FORMATS, RENEWALS};
use super::suggestions::is_secret_parameter;
use super::validate::is_plain_http;
use crate::duration::show;
use crate::secret::MASK;

/// `settings` as TOML, with the effective value of every key.
///
/// Loading the text results in equal settings. The top-level schedule is that of the first token.
/// Schedules of other tokens and inventories contain only the keys that differ.
#[expect(clippy::missing_panics_doc, reason = "numbers, text and tables are always TOML")]
pub fn print(settings: &Settings) -> String {
    let general =
        settings.tokens.first().map(|token| token.keep_alive.schedule).unwrap_or_default();
    let servers = settings.servers.iter().map(|server| (server.name.clone(), raw_server(server)));
    let reauths = settings.reauths.iter().map(|reauth| (reauth.name.clone(), raw_reauth(reauth)));
    let tokens =
        settings.tokens.iter().map(|token| (token.name.clone(), raw_token(token, &general)));
    let inventories = settings.inventories.iter();
    let inventories =
        inventories.map(|inventory| (inventory.name.clone(), raw_inventory(inventory, &general)));
    let notifies = settings.notifies.iter().map(|notify| (notify.name.clone(), raw_notify(notify)));
    let profiles = settings.profiles.iter();
    let profiles = profiles.map(|known| (known.profile.name.clone(), known.table.clone()));
    let raw = Raw {
        state_dir: Some(text(&settings.state_dir)),
        max_hooks: Some(settings.max_hooks.get()),
        keep_removed: Some(show(settings.keep_removed)),
        log: RawLog {
            format: word(&LOG_FORMATS, settings.log.format),
            level: Some(settings.log.level.clone()),
        },
        control: RawControl {
            socket: Some(text(&settings.control.socket)),
            listen: settings.control.listen.map(|address| address.to_string()),
            listen_names: Some(settings.control.listen_names),
            listen_hosts: Some(settings.control.listen_hosts.clone()),
        },
        schedule: raw_schedule(&general, None),
        cluster: settings.cluster.as_ref().map(raw_cluster),
        server: servers.collect(),
        reauth: reauths.collect(),
        token: tokens.collect(),
        inventory: inventories.collect(),
        notify: notifies.collect(),
        profile: profiles.collect(),
    };
    toml::to_string(&raw).expect("numbers, text and tables are always TOML")
}

/// Replaces the texts of parameters that are probably secrets, so that `settings` can be shown.
pub fn mask_parameters(settings: &mut Settings) {
    let of_servers = settings.servers.iter_mut().map(|server| &mut server.with);
    let of_logins = settings.reauths.iter_mut().filter_map(|reauth| match &mut reauth.method {
        ReauthMethod::Login { with, .. } => Some(with),
        ReauthMethod::Command(_) | ReauthMethod::ApiKey { .. } => None,
    });
    for (name, parameter) in of_servers.chain(of_logins).flatten() {
        if let Parameter::Text(text) = parameter
            && is_secret_parameter(name, text)
        {
            MASK.clone_into(text);
        }
    }
}

/// The two keys that can name the source of a secret: a file and a credential.
fn key_source(source: Option<&KeySource>) -> (Option<String>, Option<String>) {
    match source {
        None => (None, None),
        Some(KeySource::File(file)) => (Some(text(file)), None),
        Some(KeySource::Credential(name)) => (None, Some(name.clone())),
    }
}

fn raw_cluster(cluster: &Cluster) -> RawCluster {
    let source = |source: &KeySource| {
        let (file, credential) = key_source(Some(source));
        RawSource { file, credential, env: None }
    };
    let file = |source: Option<&KeySource>| key_source(source).0;
    let certificate = cluster.client_certificate.as_ref();
    let endpoint = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
    RawCluster {
        etcd: Some(cluster.etcd.iter().map(endpoint).collect()),
        allow_http: cluster.etcd.iter().any(is_plain_http).then_some(true),
        name: Some(cluster.name.clone()),
        prefix: Some(cluster.prefix.clone()),
        user: cluster.user.as_ref().map(|(user, _)| user.clone()),
        failover: Some(show(cluster.failover)),
        ca_file: cluster.ca_file.as_deref().map(text),
        client_cert_file: file(certificate.map(|pair| &pair.cert)),
        client_key_file: file(certificate.map(|pair| &pair.key)),
        password: cluster.user.as_ref().map(|(_, password)| source(password)),
        key: Some(source(&cluster.key)),
        old_key: cluster.old_key.as_ref().map(source),
    }
}

fn raw_server(server: &Server) -> RawServer {
    let certificate = server.client_certificate.as_ref();
    let (client_cert_file, client_cert_credential) =
        key_source(certificate.map(|certificate| &certificate.cert));
    let (client_key_file, client_key_credential) =
        key_source(certificate.map(|certificate| &certificate.key));
    let (proxy_credentials_file, proxy_credential) = key_source(server.proxy_credentials.as_ref());
    RawServer {
        url: Some(server.url.to_string()),
        allow_http: is_plain_http(&server.url).then_some(true),
        profile: server.profile.as_ref().map(|profile| profile.name.clone()),
        with: raw_parameters(&server.with),
        renewal: word(&RENEWALS, server.renewal),
        timeout: Some(show(server.timeout)),
        connect_timeout: Some(show(server.connect_timeout)),
        max_in_flight: Some(server.max_in_flight.get()),
        rate_limit: Some(server.rate_limit.get()),
        ca_file: server.ca_file.as_deref().map(text),
        client_cert_file,
        client_cert_credential,
        client_key_file,
        client_key_credential,
        proxy: server.proxy.as_ref().map(ToString::to_string),
        proxy_credentials_file,
        proxy_credential,
        schedule: None,
    }
}

fn raw_reauth(reauth: &Reauth) -> RawReauth {
    let mut raw = RawReauth {
        timeout: Some(show(reauth.timeout)),
        delay: Some(show(reauth.policy.delay)),
        delay_max: Some(show(reauth.policy.delay_max)),
        max_attempts: Some(reauth.policy.max_attempts.get()),
        window: Some(show(reauth.policy.window)),
        max_failures_all: Some(reauth.max_failures_all.get()),
        quiet: Some(reauth.maintenance_windows.iter().map(ToString::to_string).collect()),
        ..RawReauth::default()
    };
    match &reauth.method {
        ReauthMethod::Command(command) => raw.command = Some(command.clone()),
        ReauthMethod::ApiKey { key, minutes } => {
            raw.minutes = Some(*minutes);
            match key {
                KeySource::File(file) => raw.api_key_file = Some(text(file)),
                KeySource::Credential(name) => raw.api_key_credential = Some(name.clone()),
            }
        }
        ReauthMethod::Login { with, minutes } => {
            raw.login = Some(true);
            raw.with = raw_parameters(with);
            raw.minutes = Some(*minutes);
        }
    }
    raw
}

fn raw_parameters(with: &BTreeMap<String, Parameter>) -> Option<BTreeMap<String, RawParameter>> {
    let raw = |parameter: &Parameter| match parameter {
        Parameter::Text(text) => RawParameter::Text(text.clone()),
        Parameter::File(file) => RawParameter::Source(raw_source(&Source::File(file.clone()))),
        Parameter::Credential(name) => {
            RawParameter::Source(raw_source(&Source::Credential(name.clone())))
        }
        Parameter::Env(name) => RawParameter::Source(raw_source(&Source::Env(name.clone()))),
    };
    let with = with.iter().map(|(name, parameter)| (name.clone(), raw(parameter)));
    Some(with.collect()).filter(|with: &BTreeMap<_, _>| !with.is_empty())
}

fn raw_source(source: &Source) -> RawSource {
    let mut raw = RawSource::default();
    match source {
        Source::File(file) => raw.file = Some(text(file)),
        Source::Credential(name) => raw.credential = Some(name.clone()),
        Source::Env(name) => raw.env = Some(name.clone()),
    }
    raw
}

fn raw_token(token: &Token, general: &Schedule) -> RawToken {
    let mut raw = raw_keep_alive(&token.keep_alive, general);
    raw.metrics = Some(token.metrics);
    if let Some(EnvFile { path, variable, group }) = &token.env_file {
        raw.env_file = Some(text(path));
        raw.env_name = Some(variable.clone());
        raw.env_group.clone_from(group);
    }
    RawSource { file: raw.file, credential: raw.credential, env: raw.env } =
        raw_source(&token.source);
    raw.refresh = token.refresh.as_ref().map(raw_source);
    raw
}

fn raw_inventory(inventory: &Inventory, general: &Schedule) -> RawToken {
    let mut raw = raw_keep_alive(&inventory.keep_alive, general);
    match &inventory.source {
        InventorySource::File { path, strict } => {
            (raw.file, raw.strict) = (Some(text(path)), Some(*strict));
        }
        InventorySource::Dir(path) => raw.dir = Some(text(path)),
        InventorySource::Command { command, timeout, strict } => {
            (raw.command, raw.strict) = (Some(command.clone()), Some(*strict));
            raw.timeout = Some(show(*timeout));
        }
    }
    raw
}

fn raw_notify(notify: &Notify) -> RawNotify {
    let events = notify.events.as_ref();
    let mut raw = RawNotify {
        events: events.map(|events| events.iter().map(|name| name.as_str().to_owned()).collect()),
        tokens: notify
            .tokens
            .as_ref()
            .map(|tokens| tokens.iter().map(|pattern| pattern.as_str().to_owned()).collect()),
        timeout: Some(show(notify.timeout)),
        ..RawNotify::default()
    };
    match &notify.target {
        NotifyTarget::Command(command) => raw.command = Some(command.clone()),
        NotifyTarget::Webhook(webhook) => {
            raw.webhook = Some(webhook.url.to_string());
            raw.webhook_header_credential.clone_from(&webhook.header_credential);
            raw.ca_file = webhook.ca_file.as_deref().map(text);
            raw.proxy = webhook.proxy.as_ref().map(ToString::to_string);
        }
    }
    raw
}

/// The keys that tokens and inventories have in common; of the schedule, those that differ from
/// `general`.
fn raw_keep_alive(keep_alive: &KeepAlive, general: &Schedule) -> RawToken {
    let differs = keep_alive.schedule != *general;
    RawToken {
        server: Some(keep_alive.server.clone()),
        reauth: keep_alive.reauth.clone(),
        reauth_before: keep_alive.reauth_before.map(show),
        revoke_on_shutdown: Some(keep_alive.revoke_on_shutdown),
        readers: Some(keep_alive.readers.iter().map(ToString::to_string).collect()),
        schedule: differs.then(|| raw_schedule(&keep_alive.schedule, Some(general))),
        ..RawToken::default()
    }
}

/// The keys of `schedule` that differ from `general`.
fn raw_schedule(schedule: &Schedule, general: Option<&Schedule>) -> RawSchedule {
    fn own<T: PartialEq>(
        schedule: &Schedule,
        general: Option<&Schedule>,
        of: fn(&Schedule) -> T,
    ) -> Option<T> {
        let value = of(schedule);
        (general.map(of).as_ref() != Some(&value)).then_some(value)
    }
    RawSchedule {
        check_after: own(schedule, general, |schedule| schedule.check_after.get()),
        jitter: own(schedule, general, |schedule| schedule.jitter.get()),
        min_interval: own(schedule, general, |schedule| schedule.min_interval).map(show),
        max_interval: own(schedule, general, |schedule| schedule.max_interval).map(show),
        retry_initial: own(schedule, general, |schedule| schedule.retry_initial).map(show),
        retry_max: own(schedule, general, |schedule| schedule.retry_max).map(show),
    }
}

fn word<T: Copy + PartialEq>(words: &[(&str, T)], value: T) -> Option<String> {
    words.iter().find(|(_, known)| *known == value).map(|(word, _)| (*word).to_owned())
}

/// Paths were read from text, so the conversion is lossless.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
