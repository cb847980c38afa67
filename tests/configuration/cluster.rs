//! `[cluster]`, and what the tokens of a cluster may have.

use std::path::PathBuf;
use std::time::Duration;

use tokenkeep::settings::ConfigErrorKind::{BadValue, Conflict, Missing, WrongType};
use tokenkeep::settings::{Cluster, KeySource, WarningKind, print};

use super::{COMPLETE, Setup, assert_rejected};

/// A `[cluster]` with every key. `name` is on line 5.
const CLUSTER: &str = r#"[cluster]
etcd = ["https://10.0.0.1:2379", "https://[fd00::2]:2379/", "http://127.0.0.1:2379"]
key = { credential = "cluster-key" }
old_key = { file = "/etc/tokenkeep/old.key" }
name = "keeper-a"
prefix = "/tokenkeep/prod/"
failover = "5s"
user = "tokenkeep"
password = { file = "/etc/tokenkeep/etcd.password" }
ca_file = "/etc/ssl/etcd-ca.pem"
client_cert_file = "/etc/tokenkeep/client.pem"
client_key_file = "/etc/tokenkeep/client.key"
"#;

/// A `[cluster]` with the required keys, on lines 1 to 3, and `more`.
fn cluster(more: &str) -> String {
    format!(
        "[cluster]\netcd = [\"https://10.0.0.1:2379\"]\nkey = {{ file = \"/k\" }}\nname = \"a\"\n{more}"
    )
}

fn settings(text: &str) -> Cluster {
    Setup::new(&format!("{text}\n{COMPLETE}")).settings().cluster.expect("a cluster")
}

/// The errors for each text, each with its position, kind and words.
#[track_caller]
fn assert_each(table: &[(&str, &str, tokenkeep::settings::ConfigErrorKind, &[&str])]) {
    for (more, place, kind, words) in table {
        assert_rejected(&[(&cluster(more), place, *kind, words)]);
    }
}

#[test]
fn every_key_is_read_and_printed_again() {
    let setup = Setup::new(&format!("{CLUSTER}{COMPLETE}"));
    let loaded = setup.settings();
    let cluster = loaded.cluster.as_ref().expect("a cluster");
    let etcd: Vec<_> = cluster.etcd.iter().map(ToString::to_string).collect();
    assert_eq!(
        etcd,
        ["https://10.0.0.1:2379/", "https://[fd00::2]:2379/", "http://127.0.0.1:2379/"]
    );
    assert_eq!((&*cluster.name, &*cluster.prefix), ("keeper-a", "/tokenkeep/prod"));
    assert_eq!(cluster.failover, Duration::from_secs(5));
    assert_eq!(cluster.key, KeySource::Credential("cluster-key".to_owned()));
    assert_eq!(cluster.old_key, Some(KeySource::File("/etc/tokenkeep/old.key".into())));
    let password = KeySource::File("/etc/tokenkeep/etcd.password".into());
    assert_eq!(cluster.user, Some(("tokenkeep".to_owned(), password)));
    assert_eq!(cluster.ca_file, Some(PathBuf::from("/etc/ssl/etcd-ca.pem")));
    assert!(cluster.client_certificate.is_some());
    let printed = print(&loaded);
    assert_eq!(Setup::new(&printed).settings(), loaded, "{printed}");
    assert_eq!(setup.warnings(), []);
}

#[test]
fn defaults_are_the_machine_s_name_and_ten_seconds() {
    let text = "[cluster]\netcd = [\"https://10.0.0.1:2379\"]\nkey = { file = \"/k\" }\n";
    let loaded = Setup::new(&format!("{text}{COMPLETE}")).load();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    match loaded {
        Ok(loaded) => assert_eq!(loaded.settings.cluster.unwrap().name, host.trim()),
        Err(errors) => assert!(errors.to_string().contains("has no `name`"), "{errors}"),
    }
    let cluster = settings(&cluster(""));
    assert_eq!((&*cluster.prefix, cluster.failover), ("/tokenkeep", Duration::from_secs(10)));
    assert_eq!((cluster.user, cluster.old_key, cluster.client_certificate), (None, None, None));
}

#[test]
fn configuration_without_the_table_has_no_cluster() {
    let setup = Setup::new(COMPLETE);
    assert_eq!(setup.settings().cluster, None);
    assert!(!print(&setup.settings()).contains("cluster"));
}

#[test]
fn variables_change_every_key_also_the_sources_of_secrets() {
    let setup = Setup::new(&format!("{CLUSTER}{COMPLETE}"))
        .var("TOKENKEEP__CLUSTER__NAME", "keeper-b")
        .var("TOKENKEEP__CLUSTER__ETCD", "[\"https://h:2379\"]")
        .var("TOKENKEEP__CLUSTER__PASSWORD__FILE", "/other")
        .var("TOKENKEEP__CLUSTER__KEY__CREDENTIAL", "other-key");
    let cluster = setup.settings().cluster.unwrap();
    assert_eq!((&*cluster.name, cluster.etcd.len()), ("keeper-b", 1));
    assert_eq!(cluster.user.unwrap().1, KeySource::File("/other".into()));
    assert_eq!(cluster.key, KeySource::Credential("other-key".to_owned()));
}

#[test]
fn variables_alone_define_a_cluster() {
    let setup = Setup::new(COMPLETE)
        .var("TOKENKEEP__CLUSTER__NAME", "keeper-b")
        .var("TOKENKEEP__CLUSTER__ETCD", "[\"https://h:2379\"]")
        .var("TOKENKEEP__CLUSTER__USER", "u")
        .var("TOKENKEEP__CLUSTER__PASSWORD__FILE", "/password");
    let error = setup.error();
    let wanted = "environment variable TOKENKEEP__CLUSTER__ETCD Missing [cluster] has no `key`";
    assert!(error.starts_with(wanted), "{error}");
    let setup = setup.var("TOKENKEEP__CLUSTER__KEY__FILE", "/key");
    let cluster = setup.settings().cluster.unwrap();
    assert_eq!(cluster.user, Some(("u".to_owned(), KeySource::File("/password".into()))));
}

#[test]
fn variable_with_one_underscore_names_the_key_that_was_meant() {
    for (variable, meant) in [
        ("TOKENKEEP_CLUSTER_NAME", "TOKENKEEP__CLUSTER__NAME"),
        ("TOKENKEEP_CLUSTER_OLD_KEY_FILE", "TOKENKEEP__CLUSTER__OLD_KEY__FILE"),
    ] {
        let warnings = Setup::new(COMPLETE).var(variable, "x").warnings();
        let [(WarningKind::IgnoredVariable, text)] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(text.contains(meant), "{text}");
    }
}

#[test]
fn cluster_without_endpoints_or_key_is_rejected() {
    assert_rejected(&[
        ("[cluster]\nname = \"a\"\nkey = { file = \"/k\" }", "1:2", Missing, &["`etcd`", ":2379"]),
        (
            "[cluster]\nname = \"a\"\netcd = [\"https://h:2379\"]",
            "1:2",
            Missing,
            &["has no `key`", "head -c 32 /dev/urandom | base64", "{ credential = \"NAME\" }"],
        ),
        ("cluster = true", "1:1", WrongType, &["[cluster]"]),
    ]);
}

#[test]
fn endpoints_that_cannot_be_used_are_rejected_by_number() {
    let with =
        |etcd: &str| format!("[cluster]\nname = \"a\"\nkey = {{ file = \"/k\" }}\netcd = {etcd}");
    for (etcd, kind, words) in [
        ("[]", BadValue, &["is empty"][..]),
        ("\"https://h:2379\"", WrongType, &["a list of URLs", "etcd = ["]),
        ("[5]", WrongType, &["text in quotes"]),
        ("[\"https://h:1\", \"https://H:1/\"]", BadValue, &["numbers 1 and 2", "remove one"]),
        ("[\"https://h:1\", \"https://i:1/v3\"]", BadValue, &["number 2 contains a path"]),
        ("[\"https://u:S3CR3T@h:1\"]", BadValue, &["user name or password"]),
        ("[\"https://h:1/?x=S3CR3T\"]", BadValue, &["query", "https://10.0.0.1:2379"]),
        ("[\"h:2379\"]", BadValue, &["https:// or http://"]),
        ("[\"10.0.0.1:2379\"]", BadValue, &["number 1 is not a URL"]),
        ("[\"ftp://h:1\"]", BadValue, &["https:// or http://"]),
        ("[\"\"]", BadValue, &["number 1"]),
        ("[\"http://h:2379\"]", BadValue, &["number 1", "plain http", "allow_http = true"]),
    ] {
        let text = with(etcd);
        assert_rejected(&[(&text, "4:1", kind, words)]);
        let said = Setup::new(&text).load().unwrap_err().to_string();
        assert!(!said.contains("S3CR3T"), "{said}");
    }
}

#[test]
fn plain_http_to_another_machine_is_a_warning_if_it_is_allowed() {
    let text = "[cluster]\nname = \"a\"\nkey = { file = \"/k\" }\netcd = [\"http://h:2379\"]\n\
                allow_http = true\n";
    let setup = Setup::new(&format!("{text}{COMPLETE}"));
    let warnings = setup.warnings();
    assert!(matches!(&warnings[..], [(WarningKind::PlainHttp, _)]), "{warnings:?}");
    assert!(print(&setup.settings()).contains("allow_http = true"));
}

#[test]
fn endpoint_without_a_port_is_a_warning() {
    for (url, warned) in [
        ("https://h", true),
        ("https://h/", true),
        ("https://h:443", false),
        ("https://h:1", false),
    ] {
        let text = format!(
            "[cluster]\nname = \"a\"\nkey = {{ file = \"/k\" }}\netcd = [\"{url}\"]\n{COMPLETE}"
        );
        let warnings = Setup::new(&text).warnings();
        let is_warned = matches!(&warnings[..], [(WarningKind::EndpointPort, _)]);
        assert_eq!(is_warned, warned, "{url}: {warnings:?}");
    }
}

#[test]
fn names_and_prefixes_with_other_characters_are_rejected() {
    let text = |line: &str| {
        format!("[cluster]\netcd = [\"https://h:1\"]\nkey = {{ file = \"/k\" }}\n{line}")
    };
    for name in ["", "a/b", "a b", "ä", "a\\n", &"a".repeat(65)] {
        let text = text(&format!("name = \"{name}\""));
        assert_rejected(&[(&text, "4:1", BadValue, &["1 to 64 letters"])]);
    }
    for (prefix, word) in [
        ("", "begin with a slash"),
        ("tokenkeep", "begin with a slash"),
        ("/", "root of all keys"),
        ("//", "root of all keys"),
        ("/a//b", "two slashes"),
        ("/a b", "only letters"),
        ("/a%2f", "only letters"),
    ] {
        let text = text(&format!("prefix = \"{prefix}\"\nname = \"a\""));
        assert_rejected(&[(&text, "4:1", BadValue, &[word, "/tokenkeep"])]);
    }
}

#[test]
fn failover_out_of_range_is_rejected() {
    assert_each(&[
        ("failover = \"2s\"", "5:1", BadValue, &["from 3s to 1m"]),
        ("failover = \"61s\"", "5:1", BadValue, &["from 3s to 1m"]),
        ("failover = 10", "5:1", WrongType, &["failover = \"10s\""]),
    ]);
}

#[test]
fn keys_that_need_each_other_are_rejected_alone() {
    assert_each(&[
        ("user = \"u\"", "5:1", Missing, &["without `password`", "{ file = \"/path\" }"]),
        ("password = { file = \"/p\" }", "5:1", Missing, &["without `user`"]),
        ("client_cert_file = \"/c\"", "5:1", Missing, &["without `client_key_file`"]),
        ("client_key_file = \"/c\"", "5:1", Missing, &["without `client_cert_file`"]),
    ]);
}

#[test]
fn source_of_a_secret_is_one_file_or_one_credential() {
    assert_each(&[
        ("old_key = {}", "5:1", Missing, &["none of `file`, `credential`"]),
        ("old_key = { file = \"/o\", credential = \"o\" }", "5:26", Conflict, &["both"]),
        ("old_key = { file = \"/k\" }", "5:1", Conflict, &["same source as `cluster.key`"]),
        (
            "user = \"u\"\npassword = { file = \"/k\" }",
            "6:1",
            Conflict,
            &["same source as `cluster.key`"],
        ),
    ]);
    let errors = Setup::new(&cluster("old_key = { env = \"X\" }")).errors();
    assert!(
        errors[1].contains("`env` in [cluster.old_key] / remove it; known here: file,"),
        "{errors:?}"
    );
}

#[test]
fn secret_in_place_of_its_source_is_rejected_and_not_shown() {
    for text in [
        "[cluster]\nkey = \"S3CR3T\"",
        "[cluster]\nold_key = \"S3CR3T\"",
        "[cluster]\nuser = \"u\"\npassword = \"S3CR3T\"",
        "[cluster]\npassword = 'S3CR3T'",
        "[cluster]\npasswd = \"S3CR3T\"",
        "[cluster]\nkey = { value = \"S3CR3T\" }",
        "[cluster]\nkey = { file = [\"S3CR3T\"] }",
        "[cluster]\nkey = { credential = \"/S3CR3T\" }",
        "cluster.key = \"S3CR3T\"",
    ] {
        let errors = Setup::new(text).load().expect_err(text);
        let said = format!("{errors} {errors:?}");
        assert!(!said.contains("S3CR3T"), "{text:?} gives itself away: {errors}");
        assert!(said.contains("a file") && said.contains("a systemd credential"), "{said}");
    }
    let said = Setup::new(&cluster("")).var("TOKENKEEP__CLUSTER__KEY", "S3CR3T").errors().join("");
    assert!(!said.contains("S3CR3T") && said.contains("a systemd credential"), "{said}");
}

#[test]
fn revocation_at_shutdown_is_rejected_where_it_is_configured() {
    let inventory = "[inventory.many]\nserver = \"sarus\"\nfile = \"/many\"\n\
                     reauth = \"relogin\"\nrevoke_on_shutdown = true\n";
    let text = format!("{CLUSTER}{COMPLETE}revoke_on_shutdown = true\n{inventory}");
    let errors = Setup::new(&text).errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    for (error, key) in
        errors.iter().zip(["token.quotes.revoke_on_shutdown", "inventory.many.revoke_on_shutdown"])
    {
        assert!(error.contains(key) && error.contains("not possible in a cluster"), "{error}");
    }
    let alone = format!("{COMPLETE}revoke_on_shutdown = true\n{inventory}");
    Setup::new(&alone).settings();
}

#[test]
fn file_of_a_secret_is_no_env_file() {
    let text = format!("{CLUSTER}{COMPLETE}env_file = \"/etc/tokenkeep/old.key\"\n");
    let error = Setup::new(&text).error();
    assert!(error.contains("already used by `cluster.old_key`"), "{error}");
}

#[test]
fn life_under_four_failovers_is_a_warning() {
    let with = |minutes: u32, failover: &str| {
        let text = cluster(&format!("failover = \"{failover}\"\n"));
        let reauth = format!(
            "[reauth.key]\napi_key_file = \"/k2\"\nminutes = {minutes}\n[token.t]\nserver = \
             \"sarus\"\nfile = \"/t\"\nreauth = \"key\"\n"
        );
        Setup::new(&format!("{text}{COMPLETE}{reauth}")).warnings()
    };
    assert_eq!(with(1, "15s"), []);
    let warnings = with(1, "16s");
    let [(WarningKind::ShortLife, text)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(text.contains("[reauth.key] live 1 min") && text.contains("1 min 4 s"), "{text}");
}
