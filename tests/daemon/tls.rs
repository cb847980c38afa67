//! Certificates and credentials: which server is believed, what a server or a proxy demands, and
//! what a reload reads again.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustix::process::Signal;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::tls::{Authority, Pair, Proxy, TlsServer, VERSIONS, server_config};
use crate::support::{Daemon, MARK, Stage, seconds, secret, simulator, token_table};

/// The schedule of a token that is checked all the time.
const OFTEN: &str = "schedule = { max_interval = \"300ms\", min_interval = \"100ms\", retry_initial = \"100ms\", retry_max = \"500ms\" }";

fn server_table(url: &str, keys: &str) -> String {
    format!("[server.main]\nurl = \"{url}\"\n{keys}\n{}", token_table("quotes", "main", OFTEN))
}

fn stage(url: &str, keys: &str) -> Stage {
    let stage = Stage::new(&server_table(url, keys));
    stage.token("quotes");
    stage
}

async fn reload(daemon: &Daemon, event: &str) -> String {
    let before = daemon.count(event, "");
    daemon.signal(Signal::HUP);
    let line = daemon.nth(before + 1, event, "").await;
    line.0["error"].as_str().unwrap_or_default().to_owned()
}

/// Waits for a failed check whose error contains `part`, and returns the line.
async fn failure(daemon: &Daemon, part: &str) -> crate::support::Line {
    let is = |line: &crate::support::Line| {
        line.is("check_failed", "quotes") && line.text("error").contains(part)
    };
    daemon.until(&format!("a failure with {part:?}"), |lines| lines.iter().any(is)).await;
    daemon.lines().into_iter().rfind(is).expect("there is one")
}

fn write_pair(stage: &Stage, pair: &Pair) {
    stage.replace("client.pem", &pair.cert);
    stage.replace("client.key", &pair.key);
}

const CLIENT: &str = "ca_file = \"$DIR/ca.pem\"\nclient_cert_file = \"$DIR/client.pem\"\nclient_key_file = \"$DIR/client.key\"";

#[tokio::test]
async fn reload_reads_a_rotated_authority() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = TlsServer::start(server_config(&TLS13, &old.issue(), None)).await;
    let stage = stage(server.url(), "ca_file = \"$DIR/ca.pem\"");
    stage.write("ca.pem", &old.pem());
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    server.configure(server_config(&TLS13, &new.issue(), None));
    failure(&daemon, "set `ca_file`").await;
    stage.replace("ca.pem", &format!("{}{}", old.pem(), new.pem()));
    reload(&daemon, "config_reloaded").await;
    daemon.more(2, "token_checked", "quotes").await;
    // In place, and with the old one gone.
    stage.write("ca.pem", &old.pem());
    reload(&daemon, "config_reloaded").await;
    failure(&daemon, "set `ca_file`").await;
    daemon.stop().await;
}

#[tokio::test]
async fn reload_with_an_unusable_authority_is_rejected_and_the_old_one_stays() {
    let authority = Authority::new("ours");
    let server = TlsServer::start(server_config(&TLS13, &authority.issue(), None)).await;
    let stage = stage(server.url(), "ca_file = \"$DIR/ca.pem\"");
    stage.write("ca.pem", &authority.pem());
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let cut = &authority.pem()[..200];
    for content in ["", "\n", "no PEM", cut, &authority.issue().key] {
        stage.write("ca.pem", content);
        let error = reload(&daemon, "config_rejected").await;
        assert!(error.contains("`ca_file` of [server.main]"), "{error}");
        assert!(error.contains(&stage.path("ca.pem").display().to_string()), "{error}");
        daemon.more(2, "token_checked", "quotes").await;
    }
    std::fs::remove_file(stage.path("ca.pem")).expect("removed");
    let error = reload(&daemon, "config_rejected").await;
    assert!(error.contains("cannot be read"), "{error}");
    stage.write("ca.pem", &authority.pem());
    reload(&daemon, "config_reloaded").await;
    daemon.stop().await;
}

#[tokio::test]
async fn client_certificate_is_presented_and_read_again_at_a_reload() {
    for version in VERSIONS {
        let (ours, theirs, next) =
            (Authority::new("ours"), Authority::new("theirs"), Authority::new("next"));
        let pair = ours.issue();
        let server = TlsServer::start(server_config(version, &pair, Some(&theirs))).await;
        let stage = stage(server.url(), "ca_file = \"$DIR/ca.pem\"");
        stage.write("ca.pem", &ours.pem());
        let daemon = stage.start();
        let line = failure(&daemon, "client certificate").await;
        let error = line.text("error");
        assert!(
            error.contains("`client_cert_file` and `client_key_file` of [server.main]"),
            "{error}"
        );

        write_pair(&stage, &theirs.issue());
        stage.configure(&server_table(server.url(), CLIENT));
        reload(&daemon, "config_reloaded").await;
        daemon.more(2, "token_checked", "quotes").await;

        server.configure(server_config(version, &pair, Some(&next)));
        failure(&daemon, "does not accept the client certificate").await;
        write_pair(&stage, &next.issue());
        reload(&daemon, "config_reloaded").await;
        daemon.more(2, "token_checked", "quotes").await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn client_certificate_that_a_server_with_http2_rejects_is_named() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let mut config = server_config(&TLS13, &ours.issue(), Some(&theirs));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = TlsServer::start(config).await;
    let stage = stage(server.url(), CLIENT);
    stage.write("ca.pem", &ours.pem());
    write_pair(&stage, &Authority::new("another").issue());
    let daemon = stage.start();
    failure(&daemon, "does not accept the client certificate").await;
    stage.configure(&server_table(server.url(), "ca_file = \"$DIR/ca.pem\""));
    reload(&daemon, "config_reloaded").await;
    failure(&daemon, "`client_cert_file` and `client_key_file` of [server.main]").await;
    daemon.stop().await;
}

#[tokio::test]
async fn client_certificate_may_be_a_systemd_credential() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = TlsServer::start(server_config(&TLS13, &ours.issue(), Some(&theirs))).await;
    let pair = theirs.issue();
    for cert in ["client_cert_credential = \"cert\"", "client_cert_file = \"$DIR/client.pem\""] {
        let keys = format!("ca_file = \"$DIR/ca.pem\"\n{cert}\nclient_key_credential = \"key\"");
        let stage = stage(server.url(), &keys);
        stage.write("ca.pem", &ours.pem());
        stage.write("client.pem", &pair.cert);
        stage.write("credentials/cert", &pair.cert);
        stage.write("credentials/key", &pair.key);
        let folder = stage.path("credentials");
        let variables = [("CREDENTIALS_DIRECTORY", folder.to_str().expect("UTF-8"))];
        let daemon = stage.start_with(&variables);
        daemon.event("token_checked", "quotes").await;
        // A key of another certificate is named by its credential.
        stage.replace("credentials/key", &theirs.issue().key);
        let error = reload(&daemon, "config_rejected").await;
        assert!(
            error.contains("`client_key_credential` of [server.main], credential key"),
            "{error}"
        );
        daemon.stop().await;
    }
}

#[tokio::test]
async fn unusable_client_certificates_and_credentials_are_refused_with_place_and_remedy() {
    let authority = Authority::new("ours");
    let server = TlsServer::start(server_config(&TLS13, &authority.issue(), None)).await;
    let (pair, other) = (authority.issue(), authority.issue());
    let encrypted = |label: &str, header: &str| {
        format!("-----BEGIN {label}-----\n{header}{MARK}AAAA\n-----END {label}-----\n")
    };
    let ca = "ca_file = \"$DIR/ca.pem\"\n";
    let both = "client_cert_file = \"$DIR/client.pem\"\nclient_key_file = \"$DIR/client.key\"\n";
    let pass = "proxy = \"http://127.0.0.1:1\"\nproxy_credentials_file = \"$DIR/proxy.pass\"\n";
    let cases: Vec<(&str, &str, String, &[&str])> = vec![
        (
            "client_key_file = \"$DIR/client.key\"",
            "",
            String::new(),
            &["without `client_cert_file`", ":5:"],
        ),
        (
            "client_cert_file = \"$DIR/client.pem\"",
            "",
            String::new(),
            &["without `client_key_file`", ":5:"],
        ),
        (
            "proxy_credentials_file = \"$DIR/proxy.pass\"",
            "",
            String::new(),
            &["without `proxy`", ":5:"],
        ),
        ("proxy_credential = \"proxy\"", "", String::new(), &["without `proxy`", ":5:"]),
        (
            both,
            "client.key",
            encrypted("ENCRYPTED PRIVATE KEY", ""),
            &["encrypted", "openssl pkey"],
        ),
        (
            both,
            "client.key",
            encrypted("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"),
            &["encrypted", "openssl pkey"],
        ),
        (
            both,
            "client.key",
            other.key.clone(),
            &["does not belong to the certificate", "client.pem"],
        ),
        (both, "client.key", String::new(), &["no usable private key"]),
        (both, "client.key", pair.cert.clone(), &["no usable private key"]),
        (both, "client.pem", pair.key.clone(), &["no usable certificate"]),
        (both, "client.pem", "no PEM".to_owned(), &["no usable certificate"]),
        (pass, "proxy.pass", MARK.to_owned(), &["USER:PASSWORD", "proxy.pass"]),
        (pass, "proxy.pass", format!(":{MARK}"), &["USER:PASSWORD", "proxy.pass"]),
        (pass, "proxy.pass", format!("a:{MARK}\nb:{MARK}"), &["USER:PASSWORD", "proxy.pass"]),
        (pass, "proxy.pass", String::new(), &["USER:PASSWORD", "proxy.pass"]),
    ];
    let stage = stage(server.url(), ca);
    stage.write("ca.pem", &authority.pem());
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    for (keys, file, content, parts) in cases {
        write_pair(&stage, &pair);
        stage.write("proxy.pass", &format!("user:{MARK}"));
        if !file.is_empty() {
            stage.replace(file, &content);
        }
        stage.configure(&server_table(server.url(), &format!("{ca}{keys}")));
        let error = reload(&daemon, "config_rejected").await;
        let second = stage.start().ended().await;
        assert_eq!(second.status.code(), Some(78), "{keys}: {}", second.stderr);
        for said in [&error, &second.stderr] {
            for part in parts.iter().chain(&["server.main"]) {
                assert!(said.contains(part), "{keys}: {part:?} is not in {said}");
            }
        }
        daemon.more(1, "token_checked", "quotes").await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn expired_client_certificate_is_a_warning_with_its_date() {
    let authority = Authority::new("ours");
    let server = TlsServer::start(server_config(&TLS13, &authority.issue(), None)).await;
    let expired =
        authority.issue_with(&["client"], |params| params.not_after = date_time_ymd(2020, 2, 3));
    let early = authority.issue_with(&["client"], |params| {
        params.not_before = date_time_ymd(2130, 4, 5);
        params.not_after = date_time_ymd(2131, 4, 5);
    });
    let stage = stage(server.url(), CLIENT);
    stage.write("ca.pem", &authority.pem());
    write_pair(&stage, &expired);
    let daemon = stage.start();
    let line = daemon.event("config_warning", "").await;
    assert!(line.text("message").contains("expired at 2020-02-03T00:00:00Z"), "{line:?}");
    assert!(line.text("path").ends_with("client.pem"), "{line:?}");
    assert!(line.text("error").contains("client_cert_file"), "{line:?}");
    // The server does not ask for it.
    daemon.event("token_checked", "quotes").await;
    write_pair(&stage, &early);
    reload(&daemon, "config_reloaded").await;
    let line = daemon.nth(2, "config_warning", "").await;
    assert!(line.text("message").contains("not valid until 2130-04-05T00:00:00Z"), "{line:?}");
    write_pair(&stage, &authority.issue());
    reload(&daemon, "config_reloaded").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_warning", ""), 2);
}

#[tokio::test]
async fn proxy_gets_its_credentials_for_plain_requests_and_for_tunnels() {
    let authority = Authority::new("ours");
    let tls = TlsServer::start(server_config(&TLS13, &authority.issue(), None)).await;
    let plain = simulator().await;
    plain.add_token(&secret("quotes"), seconds(60));
    let good = format!("us er:{MARK}:p\u{e4}ss w\u{f6}rd");
    for url in [plain.url(), tls.url().to_owned()] {
        let proxy = Proxy::start(&good).await;
        let keys = format!("ca_file = \"$DIR/ca.pem\"\nproxy = \"{}\"\n", proxy.url());
        let with = format!("{keys}proxy_credentials_file = \"$DIR/proxy.pass\"\n");
        let stage = stage(&url, &keys);
        stage.write("ca.pem", &authority.pem());
        let daemon = stage.start();
        let line = failure(&daemon, "407").await;
        assert!(line.text("error").contains("`proxy_credentials_file`"), "{line:?}");
        assert_eq!(line.number("status"), 407);
        assert_eq!(proxy.served(), 0);

        stage.write("proxy.pass", &format!("user:{MARK}-wrong"));
        stage.configure(&server_table(&url, &with));
        reload(&daemon, "config_reloaded").await;
        daemon.more(1, "check_failed", "quotes").await;
        stage.write("proxy.pass", &format!("{good}\n"));
        reload(&daemon, "config_reloaded").await;
        daemon.more(2, "token_checked", "quotes").await;
        assert!(proxy.served() > 0, "{url}");
        for status in [403, 502, 503] {
            proxy.refuse(Some(status));
            let line = failure(&daemon, &format!("({status})")).await;
            assert_eq!(line.number("status"), u64::from(status), "{url}");
        }
        proxy.refuse(None);
        daemon.more(2, "token_checked", "quotes").await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn each_error_of_a_certificate_is_named_with_its_own_remedy() {
    let authority = Authority::new("ours");
    let clock = |from, to| {
        move |params: &mut rcgen::CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 2);
            params.not_after = date_time_ymd(to, 3, 4);
        }
    };
    let host = &["127.0.0.1"][..];
    let client_only = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let cases: Vec<(Pair, &[&str])> = vec![
        (
            authority.issue_with(host, clock(2001, 2002)),
            &["expired at 2002-03-04T00:00:00Z", "clock says 2"],
        ),
        (
            authority.issue_with(host, clock(2130, 2131)),
            &["not valid until 2130-01-02T00:00:00Z", "clock says 2"],
        ),
        (
            authority.issue_with(&["elsewhere.example", "10.1.2.3"], |_| {}),
            &["elsewhere.example, 10.1.2.3", "not for 127.0.0.1"],
        ),
        (authority.pair(), &["CA:TRUE", "CA:FALSE"]),
        (authority.issue_with(host, client_only), &["may not be used by servers", "serverAuth"]),
        (Authority::new("other").issue(), &["not trusted", "set `ca_file` of [server.main]"]),
    ];
    let server = TlsServer::start(server_config(&TLS12, &authority.issue(), None)).await;
    let stage = stage(server.url(), "ca_file = \"$DIR/ca.pem\"");
    stage.write("ca.pem", &authority.pem());
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    for (pair, parts) in cases {
        server.configure(server_config(&TLS13, &pair, None));
        let line = failure(&daemon, parts[0]).await;
        for part in parts {
            assert!(line.text("error").contains(part), "{part:?} is not in {line:?}");
        }
        let advises = line.text("error").contains("set `ca_file`");
        assert_eq!(advises, parts[0] == "not trusted", "{line:?}");
    }
    daemon.stop().await;
}
