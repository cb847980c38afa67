//! A whole cluster: etcd, the API, and replicas with one configuration.

use std::fmt::Write as _;

use crate::api::{Api, Rules};
use crate::etcd::{Access, Etcd, KEEPER, PREFIX, USAGES, client_certificate};
use crate::network;
use crate::replica::{Replica, name};
use crate::support::{Stage, millis, seconds, secret};

/// Keys of the cluster: the first, and the one of the rotation. With the mark of secrets.
pub(crate) const KEY: &str = "S3CR3Ta7Yk2mQx0LwVnB5dHsRfT8uJeZpGc1oNiXyE4=";
pub(crate) const NEW_KEY: &str = "S3CR3Tq1Zr8vKc5tWb2nXy7mJs4hGd0fLp9aQeUiOwA=";

/// Keys of `[cluster]` for TLS.
pub(crate) const CA_FILE: &str = "ca_file = \"$DIR/ca.pem\"\n";
pub(crate) const CLIENT_CERTIFICATE: &str =
    "client_cert_file = \"$DIR/client.pem\"\nclient_key_file = \"$DIR/client.key\"\n";

/// Keys of `[cluster]` for [`KEEPER`].
pub(crate) fn user() -> String {
    let (user, _) = KEEPER;
    format!("user = \"{user}\"\npassword = {{ file = \"$DIR/etcd.password\" }}\n")
}

/// `failover` of all clusters here: the shortest that is permitted.
pub(crate) const FAILOVER: std::time::Duration = seconds(3);

/// A token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) rules: Rules,
    /// Whether the token has a login.
    pub(crate) logs_in: bool,
    /// More keys of the token.
    pub(crate) keys: &'static str,
}

/// A running cluster.
pub(crate) struct Cluster {
    pub(crate) etcd: Etcd,
    pub(crate) api: Api,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) tokens: Vec<Token>,
}

impl Token {
    /// A token that every check renews, without a login.
    pub(crate) fn eternal(name: impl Into<String>) -> Self {
        let rules = Rules {
            life: seconds(30)..seconds(30),
            renews: true,
            login: millis(50)..millis(400),
            refuses: false,
        };
        Self { name: name.into(), rules, logs_in: false, keys: "" }
    }

    /// A token that nothing renews, with a login.
    pub(crate) fn mortal(name: impl Into<String>) -> Self {
        let rules =
            Rules { life: seconds(3)..seconds(6), renews: false, ..Self::eternal("").rules };
        Self { rules, logs_in: true, ..Self::eternal(name) }
    }
}

impl Cluster {
    /// Starts etcd and the API, and prepares the replicas.
    pub(crate) async fn new(nodes: usize, replicas: usize, tokens: Vec<Token>) -> Self {
        Self::with(nodes, Access::Password, replicas, tokens).await
    }

    /// The same with another access to etcd.
    pub(crate) async fn with(
        nodes: usize,
        access: Access,
        replicas: usize,
        tokens: Vec<Token>,
    ) -> Self {
        network::prepare(3);
        let etcd = Etcd::start(nodes, access, &USAGES).await;
        let api = Api::start(replicas).await;
        let replicas = (0..replicas).map(|index| Replica::new(index, Stage::new("")));
        let cluster = Self { etcd, api, replicas: replicas.collect(), tokens };
        for token in &cluster.tokens {
            cluster.add(token);
        }
        for replica in &cluster.replicas {
            replica.stage.write("etcd.password", KEEPER.1);
            replica.stage.write("cluster.key", KEY);
            replica.stage.write("ca.pem", &cluster.etcd.authority.pem());
            replica.renew(&client_certificate(&cluster.etcd.authority));
            cluster.configure(replica.index);
        }
        cluster
    }

    /// Starts all replicas, and waits until each has joined.
    pub(crate) async fn join(&mut self) {
        self.replicas.iter_mut().for_each(Replica::start);
        for replica in &self.replicas {
            replica.daemon().event("cluster_joined", "").await;
        }
    }

    /// Adds a token to the API, and its files to each replica.
    fn add(&self, token: &Token) {
        let value = self.api.add(&token.name, token.rules.clone());
        for replica in &self.replicas {
            replica.stage.write(&format!("{}.token", token.name), &value);
            replica.stage.write(&format!("{}.key", token.name), &secret(&token.name));
        }
    }

    /// Adds a token to the API and to this replica's configuration only. [`Self::configure`] adds
    /// it to another one.
    pub(crate) fn add_on(&mut self, index: usize, token: Token) {
        self.add(&token);
        self.tokens.push(token);
        self.configure(index);
    }

    /// Writes the configuration of this replica.
    pub(crate) fn configure(&self, index: usize) {
        self.configure_with(index, &self.section(index));
    }

    /// The same with this `[cluster]`.
    pub(crate) fn configure_with(&self, index: usize, section: &str) {
        let text = section.to_owned() + &self.tables(index, &self.tokens);
        self.replicas[index].stage.configure(&text);
    }

    /// `[cluster]` of this replica.
    pub(crate) fn section(&self, index: usize) -> String {
        let (name, endpoints, access) = (name(index), self.etcd.endpoints(), self.etcd.access());
        let mut section = format!(
            "[cluster]\netcd = {endpoints}\nname = \"{name}\"\nprefix = \"{PREFIX}\"\n\
             key = {{ file = \"$DIR/cluster.key\" }}\nfailover = \"3s\"\n"
        );
        if access != Access::Certificate {
            section += &user();
        }
        if access != Access::Password {
            section += CA_FILE;
        }
        if matches!(access, Access::Certificate | Access::CertificatePassword) {
            section += CLIENT_CERTIFICATE;
        }
        section
    }

    /// The servers and tokens of this replica.
    pub(crate) fn tables(&self, index: usize, tokens: &[Token]) -> String {
        let url = self.api.url(index);
        // Eternal tokens are checked so often that it is known which replica asks.
        let mut text = format!(
            "[server.mortal]\nurl = \"{url}\"\nrenewal = \"query\"\n\
             [server.eternal]\nurl = \"{url}\"\nschedule = {{ max_interval = \"1s\" }}\n"
        );
        for Token { name, rules, logs_in, keys } in tokens {
            let server = if rules.renews { "eternal" } else { "mortal" };
            if *logs_in {
                let _ = writeln!(
                    text,
                    "[reauth.{name}]\napi_key_file = \"$DIR/{name}.key\"\ntimeout = \"5s\"\n\
                     delay = \"200ms\"\ndelay_max = \"1s\""
                );
            }
            let reauth = if *logs_in { format!("reauth = \"{name}\"\n") } else { String::new() };
            let _ = writeln!(
                text,
                "[token.{name}]\nserver = \"{server}\"\nfile = \"$DIR/{name}.token\"\n{reauth}{keys}"
            );
        }
        text
    }

    /// The logs without routine lines, for the message of a failure.
    pub(crate) fn story(&self) -> String {
        self.replicas.iter().map(Replica::story).collect()
    }

    /// All lines about one token, of all replicas in order of their time.
    pub(crate) fn story_of(&self, token: &str) -> String {
        let mut lines = Vec::new();
        for replica in &self.replicas {
            let own = replica.lines().into_iter().filter(|line| line.0["token"] == token);
            lines.extend(own.map(|line| (line.timestamp(), name(replica.index), line)));
        }
        lines.sort_by_key(|(at, _, _)| *at);
        let lines = lines.iter().map(|(_, replica, line)| format!("  {replica} {}", line.0));
        lines.collect::<Vec<_>>().join("\n")
    }
}
