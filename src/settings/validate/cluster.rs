//! `[cluster]`, and what tokens of a cluster may have.

use std::time::Duration;

use url::Url;

use crate::duration;
use crate::text::format_duration;

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::model::{ClientCertificate, Cluster, KeySource, ReauthMethod, Server, Settings};
use super::super::raw::{Raw, RawCluster, RawSource};
use super::super::text::is_replica_name;
use super::profile::assumed_life;
use super::server::source;
use super::{Validator, duration_or, is_plain_http};

const CLUSTER: &str = "cluster";
const PREFIX: &str = "/tokenkeep";
/// Short against the life of most tokens, and long against an election in etcd.
const FAILOVER: Duration = Duration::from_secs(10);
/// A token must live this many times as long as `failover`: a replica may die right before a check
/// is due, at two thirds of the life.
const LIFE_IN_FAILOVERS: u32 = 4;

impl Validator<'_> {
    pub(super) fn cluster(&mut self, raw: &RawCluster) -> Option<Cluster> {
        let etcd = self.endpoints(raw);
        let key = self.secret("key", raw.key.as_ref());
        if raw.key.is_none() {
            self.report_missing(
                CLUSTER,
                "key",
                "create it with `head -c 32 /dev/urandom | base64`, give the same to all replicas, and write \
                 key = { file = \"/path\" } or key = { credential = \"NAME\" }",
            );
        }
        let old_key = self.secret("old_key", raw.old_key.as_ref());
        let password = self.secret("password", raw.password.as_ref());
        self.reject_shared_secrets([("key", &key), ("old_key", &old_key), ("password", &password)]);
        let remedy = "add password = { file = \"/path\" } or { credential = \"NAME\" }";
        self.require_beside("user", "password", remedy);
        let remedy = "add user = \"NAME\", the user of etcd, or remove the password";
        self.require_beside("password", "user", remedy);
        let name = self.replica_name(raw);
        let both = "both may name one PEM file that contains both parts";
        let (cert, key_file) = ("client_cert_file", "client_key_file");
        self.require_beside(cert, key_file, &format!("add `{key_file}`; {both}"));
        self.require_beside(key_file, cert, &format!("add `{cert}`; {both}"));
        let file = |path: &String| KeySource::File(path.into());
        let certificate = raw.client_cert_file.as_ref().zip(raw.client_key_file.as_ref());
        Some(Cluster {
            etcd,
            name: name?,
            prefix: raw.prefix.as_deref().unwrap_or(PREFIX).trim_end_matches('/').to_owned(),
            user: raw.user.clone().zip(password),
            ca_file: raw.ca_file.as_deref().map(Into::into),
            client_certificate: certificate
                .map(|(cert, key)| ClientCertificate { cert: file(cert), key: file(key) }),
            key: key?,
            old_key,
            failover: duration_or(raw.failover.as_deref(), FAILOVER),
        })
    }

    fn endpoints(&mut self, raw: &RawCluster) -> Vec<Url> {
        let Some(texts) = &raw.etcd else {
            let remedy = "write the URLs of all nodes: etcd = [\"https://10.0.0.1:2379\"]";
            self.report_missing(CLUSTER, "etcd", remedy);
            return Vec::new();
        };
        for (index, text) in texts.iter().enumerate() {
            let Ok(url) = Url::parse(text) else { continue };
            let number = index + 1;
            if is_plain_http(&url) {
                self.plain_http_endpoint(number, raw.allow_http == Some(true));
            }
            // A default port is written, but not kept.
            let is_written =
                [":80", ":443"].iter().any(|port| text.trim_end_matches('/').ends_with(port));
            if url.port().is_none() && !is_written {
                let port = url.port_or_known_default().unwrap_or(443);
                self.warning(
                    (CLUSTER, "etcd"),
                    WarningKind::EndpointPort,
                    format!(
                        "endpoint number {number} of `cluster.etcd` has no port, so {port} is used"
                    ),
                    format!(
                        "write the port: etcd listens on 2379 by default, a proxy maybe on {port}"
                    ),
                );
            }
        }
        texts.iter().filter_map(|text| Url::parse(text).ok()).collect()
    }

    fn plain_http_endpoint(&mut self, number: usize, allowed: bool) {
        let what = format!("endpoint number {number} of `cluster.etcd` is plain http");
        if allowed {
            let message = format!(
                "{what}: others on the network can read the password of etcd, and make replicas log \
                 in twice"
            );
            let remedy = "use https if etcd supports it";
            self.warning((CLUSTER, "etcd"), WarningKind::PlainHttp, message, remedy);
        } else {
            let message = format!(
                "{what} to another machine, so others on the network can read the password of etcd \
                 and change its content"
            );
            let remedy = "use https, or add allow_http = true if you accept that";
            self.error((CLUSTER, "etcd"), ConfigErrorKind::BadValue, message, remedy);
        }
    }

    /// The source of the secret `key`.
    fn secret(&mut self, key: &str, raw: Option<&RawSource>) -> Option<KeySource> {
        let raw = raw?;
        self.require_exactly_one(&join(CLUSTER, key), &["file", "credential"]);
        source(raw.file.as_ref(), raw.credential.as_ref())
    }

    fn reject_shared_secrets(&mut self, secrets: [(&str, &Option<KeySource>); 3]) {
        for (index, (key, source)) in secrets.into_iter().enumerate() {
            let same =
                |(_, other): &&(&str, &Option<KeySource>)| source.is_some() && *other == source;
            let Some((other, _)) = secrets[..index].iter().find(same) else { continue };
            let message = format!("`cluster.{key}` has the same source as `cluster.{other}`");
            let remedy = match key {
                "old_key" => {
                    "name the source of the key before, or remove it: without a rotation there is none"
                }
                _ => "give each secret a source of its own",
            };
            self.error((CLUSTER, key), ConfigErrorKind::Conflict, message, remedy);
        }
    }

    /// Reports `key` if it is present without `other`.
    fn require_beside(&mut self, key: &str, other: &str, remedy: &str) {
        if self.is_present(CLUSTER, key) && !self.is_present(CLUSTER, other) {
            let message = format!("[cluster] has `{key}` without `{other}`");
            self.error((CLUSTER, key), ConfigErrorKind::Missing, message, remedy);
        }
    }

    /// The name of this replica: by default the name of the machine.
    fn replica_name(&mut self, raw: &RawCluster) -> Option<String> {
        if raw.name.is_some() || self.is_present(CLUSTER, "name") {
            return raw.name.clone();
        }
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let host = host.unwrap_or_default();
        // The kernel's default, and what minimal images leave.
        let is_unset = matches!(host.as_str(), "localhost" | "localhost.localdomain");
        if is_replica_name(&host) && !is_unset {
            return Some(host);
        }
        let message = "[cluster] has no `name`, and the name of this machine cannot be used: it is \
                       empty, \"localhost\", or has other characters than letters, digits and `.`, \
                       `_`, `-`";
        let remedy = "write name = \"keeper-a\", another one on each machine";
        let position = self.table_position(CLUSTER);
        self.collector.error(position, ConfigErrorKind::Missing, message, remedy);
        None
    }

    /// Checks the tokens of a cluster.
    pub(super) fn check_replicas(&mut self, settings: &Settings, raw: &Raw) {
        let Some(cluster) = &raw.cluster else { return };
        let tokens = raw.token.iter().map(|(name, token)| ("token", name, token));
        let inventories = raw.inventory.iter().map(|(name, token)| ("inventory", name, token));
        for (section, name, token) in tokens.chain(inventories) {
            if token.revoke_on_shutdown == Some(true) {
                let table = join(section, name);
                let message = format!(
                    "`{}` is not possible in a cluster: the other replicas still use the value when \
                     this one stops",
                    join(&table, "revoke_on_shutdown")
                );
                let remedy =
                    "remove it, or remove [cluster]; `tokenkeep revoke NAME` revokes by hand";
                self.error(
                    (&table, "revoke_on_shutdown"),
                    ConfigErrorKind::Conflict,
                    message,
                    remedy,
                );
            }
        }
        let failover = cluster.failover.as_deref();
        let failover = failover.and_then(|text| duration::parse(text).ok()).unwrap_or(FAILOVER);
        self.warn_short_lives(settings, failover * LIFE_IN_FAILOVERS);
    }

    /// Warns about lives, known from the configuration, that are shorter than `least`.
    fn warn_short_lives(&mut self, settings: &Settings, least: Duration) {
        let used = |name: &str| {
            let tokens = settings.tokens.iter().map(|token| &token.keep_alive);
            let inventories = settings.inventories.iter().map(|inventory| &inventory.keep_alive);
            let mut all = tokens.chain(inventories);
            all.any(|it| it.server == name || it.reauth.as_deref() == Some(name))
        };
        let assumed =
            settings.servers.iter().filter(|server| used(&server.name)).filter_map(|server| {
                let Server { name, .. } = server;
                Some((join("server", name), "profile", assumed_life(server)?))
            });
        let requested =
            settings.reauths.iter().filter(|reauth| used(&reauth.name)).filter_map(|reauth| {
                let (ReauthMethod::ApiKey { minutes, .. } | ReauthMethod::Login { minutes, .. }) =
                    &reauth.method
                else {
                    return None;
                };
                let table = join("reauth", &reauth.name);
                let is_written = self.is_present(&table, "minutes");
                is_written
                    .then(|| (table, "minutes", Duration::from_secs(60 * u64::from(*minutes))))
            });
        let short: Vec<_> = assumed.chain(requested).filter(|(_, _, life)| *life < least).collect();
        for (table, key, life) in short {
            let message = format!(
                "tokens of [{table}] live {}, which is less than {LIFE_IN_FAILOVERS} times \
                 `cluster.failover`: if a replica dies, they may expire before another one checks \
                 them",
                format_duration(life)
            );
            let remedy = format!(
                "a life of {} is enough; or shorten `cluster.failover`",
                format_duration(least)
            );
            self.warning((&table, key), WarningKind::ShortLife, message, remedy);
        }
    }
}
