//! `profile`, and what `probe`, `init`, `add`, `doctor` and `check-config` do with profiles.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::doubles::{RawServer, Script};
use crate::support::{MARK, PATIENCE, Stage, get, secret};

const GOOD: i32 = 0;
const NEGATIVE: i32 = 1;
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const CONFIGURATION: i32 = 78;

const OAUTH: [&str; 6] =
    ["--profile", "oauth2", "--with", "client_id=keeper", "--with", "client_secret=@client.secret"];

/// A server that gives each request this response.
async fn server(status: &str, body: &str) -> RawServer {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    RawServer::start(Script::Say((head + body).into_bytes())).await.expect("a server")
}

/// The status of a command in the stage's folder, and all that it says: no secret, in any case.
async fn run(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    run_with(stage, arguments, Stdio::null()).await
}

async fn run_with(stage: &Stage, arguments: &[&str], stdin: Stdio) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.args(arguments).current_dir(stage.path("")).kill_on_drop(true);
    command.args(["--config", "tokenkeep.toml"]).stdin(stdin);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    assert!(!said.contains(MARK), "a secret in:\n{said}");
    (output.status.code().expect("a status"), said)
}

/// A stage with a token, a refresh token, and the secret of a client.
fn staged() -> Stage {
    let stage = Stage::new("");
    stage.token("quotes");
    stage.write("quotes.refresh", &secret("refresh"));
    stage.write("client.secret", &secret("client"));
    stage
}

async fn probe(stage: &Stage, server: &RawServer, options: &[&str]) -> (i32, String) {
    let url = server.url();
    let first = ["probe", "--url", &url, "--token-file", "quotes.token"];
    run(stage, &[&first[..], options].concat()).await
}

#[tokio::test]
async fn probe_with_a_profile_explains_what_the_response_means() {
    let stage = staged();
    let alive = r#"{"data":{"ttl":1800,"expire_time":"2030-01-01T00:00:00Z"}}"#;
    let endless = r#"{"data":{"ttl":0,"expire_time":null}}"#;
    let policy = r#"{"errors":["1 error occurred: permission denied"]}"#;
    for (status, body, expected, words) in [
        (
            "200 OK",
            alive,
            GOOD,
            &[
                "query: HTTP 200; `life`: 1800 at data.ttl\nalive: 30 min left, until 20",
                "\nthe daemon would check it again after 18 min 5 s to 20 min 6 s\n",
            ][..],
        ),
        ("200 OK", endless, GOOD, &["`endless`: null at data.expire_time\nalive: does not expire"]),
        (
            "403 Forbidden",
            r#"{"errors":["permission denied"]}"#,
            NEGATIVE,
            &["HTTP 403; `dead[0]` matches: rejected", "\nrejected: "],
        ),
        (
            "403 Forbidden",
            policy,
            CONFIGURATION,
            &["HTTP 403; no rule of `later` or `dead` matches (the body has errors)"],
        ),
        ("403 Forbidden", "<html>", CONFIGURATION, &["the body is not one JSON value; no rule"]),
        (
            "200 OK",
            r#"{"data":{"id":"x","TTL":5}}"#,
            UNAVAILABLE,
            &["`life`: nothing at data.ttl (data has TTL, id)"],
        ),
        ("200 OK", "{}", UNAVAILABLE, &["`life`: nothing at data.ttl\n"]),
    ] {
        let server = server(status, body).await;
        let (ended, said) = probe(&stage, &server, &["--profile", "vault"]).await;
        assert_eq!(ended, expected, "{status} {body}: {said}");
        for words in words {
            assert!(said.contains(words), "{words}\n{said}");
        }
    }
}

#[tokio::test]
async fn explanation_shows_no_secret_of_the_response() {
    let stage = staged();
    stage.write(
        "mine.toml",
        "[profile.mine]\nquery = { request = 'GET s', life = 'token', unit = 's', headers = { A = \
         '{token}' } }\n",
    );
    // The ID of a lease that was never sent.
    let lease = self::server("200 OK", r#"{"token":"166811474504456455"}"#).await;
    let (_, said) = probe(&stage, &lease, &["--profile", "./mine.toml"]).await;
    let words = "`life`: a number that is no life or time at token";
    assert!(said.contains(words) && !said.contains("166811474504456455"), "{said}");
    // The value, and one that was never sent: a place that leads to it by mistake.
    let body = format!(r#"{{"token":"{}","{}":1}}"#, secret("other"), secret("quotes"));
    let server = server("200 OK", &body).await;
    let (ended, said) = probe(&stage, &server, &["--profile", "./mine.toml"]).await;
    assert_eq!(ended, UNAVAILABLE, "{said}");
    assert!(said.contains("`life`: a text that is no number or time at token"), "{said}");
}

#[tokio::test]
async fn probe_spends_no_refresh_token_unless_it_is_told_to_renew() {
    let stage = staged();
    stage.write(
        "renews.toml",
        "[profile.renews]\nrenew = { request = 'POST token', form = { r = '{refresh}' }, value = \
         'v', refresh = 'r', life = 'l', unit = 's' }\n",
    );
    let server = server("200 OK", r#"{"active":true,"exp":32503680000}"#).await;
    let refresh_file = &["--refresh-file", "quotes.refresh"][..];
    for (options, expected, words) in [
        (&[&["--profile", "renews.toml"][..]][..], USAGE, "add --renewal renew"),
        (&[&["--profile", "renews.toml"], refresh_file], USAGE, "add --renewal renew"),
        (
            &[&["--profile", "renews.toml", "--renewal", "renew"]],
            USAGE,
            "add --refresh-file PATH: the refresh token is spent",
        ),
        (&[&OAUTH, &["--prove-renewal"], refresh_file], USAGE, "--prove-renewal: each renewal"),
    ] {
        let (ended, said) = probe(&stage, &server, &options.concat()).await;
        assert_eq!(ended, expected, "{options:?}: {said}");
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert_eq!(server.requests().len(), 0);
    let (ended, said) = probe(&stage, &server, &[&OAUTH, refresh_file].concat()).await;
    assert_eq!(ended, GOOD, "{said}");
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.starts_with("POST /token/introspection ")));
    assert_eq!(stage.read("quotes.refresh"), secret("refresh"));
}

#[tokio::test]
async fn probe_whose_renewal_got_no_response_warns_about_a_second_one() {
    let stage = staged();
    let server = RawServer::start(Script::Say(Vec::new())).await.expect("a server");
    let options = ["--renewal", "renew", "--refresh-file", "quotes.refresh"];
    let (ended, said) = probe(&stage, &server, &[&OAUTH[..], &options].concat()).await;
    assert_eq!(ended, UNAVAILABLE, "{said}");
    assert!(said.contains("the refresh token may be spent: do not send it again"), "{said}");
    let renewals = server.requests();
    let renewals = renewals.iter().filter(|request| request.starts_with("POST /token "));
    assert_eq!(renewals.count(), 1);
}

#[tokio::test]
async fn renewal_by_probe_writes_the_new_refresh_token_and_the_new_value() {
    let stage = staged();
    let (value, refresh) = (secret("new"), secret("next"));
    let body =
        format!(r#"{{"access_token":"{value}","refresh_token":"{refresh}","expires_in":60}}"#);
    let server = server("200 OK", &body).await;
    let options = ["--renewal", "renew", "--refresh-file", "quotes.refresh"];
    let (ended, said) = probe(&stage, &server, &[&OAUTH[..], &options].concat()).await;
    assert_eq!(ended, GOOD, "{said}");
    assert!(
        said.contains("new refresh token written to quotes.refresh\nalive: 1 min left"),
        "{said}"
    );
    assert_eq!(stage.read("quotes.refresh").trim(), refresh);
    assert_eq!(stage.read("quotes.token").trim(), value);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn probe_logs_in_and_stores_the_value_before_it_queries() {
    let stage = staged();
    let body = format!(
        r#"{{"auth":{{"client_token":"{}"}},"data":{{"ttl":60,"expire_time":"x"}}}}"#,
        secret("new")
    );
    let server = server("200 OK", &body).await;
    let options = [
        "--profile",
        "vault",
        "--login",
        "--with",
        "role_id=r7",
        "--with",
        "secret_id=@client.secret",
    ];
    let (ended, said) = probe(&stage, &server, &options).await;
    assert_eq!(ended, GOOD, "{said}");
    assert!(said.contains("login: new value written to quotes.token\nquery: HTTP 200"), "{said}");
    assert_eq!(stage.read("quotes.token").trim(), secret("new"));
}

#[tokio::test]
async fn wrong_options_for_a_profile_are_refused_with_their_remedy() {
    let stage = staged();
    stage.write("two.toml", "[profile.a]\n[profile.b]\n");
    stage.write("none.toml", "[server.a]\n");
    stage.write("bad.toml", "[profile.a]\nquery = { request = 'GET x', lief = 'a' }\nassume = 1\n");
    stage.write("broken.toml", "[profile.a]\nx = = 'S3CR3T'\n");
    let server = server("200 OK", "{}").await;
    for (options, expected, words) in [
        (&["--profile", "valt"][..], USAGE, "did you mean `vault`?"),
        (&["--profile", "gibberish"], USAGE, "there are sarus, vault, oauth2, etcd-lease, zabbix"),
        (
            &["--profile", "oauth2"],
            USAGE,
            "profile oauth2 needs client_id, client_secret; add --with",
        ),
        (&["--profile", "vault", "--with", "user=x"], USAGE, "it has role_id, secret_id"),
        (&["--profile", "vault", "--with", "S3CR3T"], USAGE, "--with needs KEY=VALUE"),
        (&["--with", "user=x"], USAGE, "--with needs a profile other than sarus"),
        (&["--login"], USAGE, "--login needs a profile other than sarus"),
        (&["--profile", "zabbix", "--prove-renewal"], USAGE, "reports no life"),
        (&["--profile", "./missing.toml"], CONFIGURATION, "./missing.toml: it cannot be read"),
        (&["--profile", "two.toml"], CONFIGURATION, "more than one [profile.NAME]"),
        (&["--profile", "none.toml"], CONFIGURATION, "it has no [profile.NAME]"),
        (&["--profile", "bad.toml"], CONFIGURATION, "[profile.a] `query.lief` is no known key"),
        (&["--profile", "broken.toml"], CONFIGURATION, "broken.toml:2: "),
    ] {
        let (ended, said) = probe(&stage, &server, options).await;
        assert_eq!(ended, expected, "{options:?}: {said}");
        assert!(said.contains(words) && !said.contains("S3CR3T"), "{words}\n{said}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn profile_lists_built_in_and_configured_profiles_and_prints_each() {
    let stage = Stage::new("");
    let mine = "[profile.mine.query]\nlife = \"ttl\"\nrequest = \"GET session\"\nunit = \"s\"\n";
    stage.configure(&format!("{mine}headers = {{ A = \"{{token}}\" }}\n"));
    let (ended, listed) = run(&stage, &["profile"]).await;
    assert_eq!(ended, GOOD, "{listed}");
    let names: Vec<_> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["sarus", "vault", "oauth2", "etcd-lease", "zabbix", "mine"], "{listed}");
    for name in names {
        let (ended, text) = run(&stage, &["profile", name]).await;
        assert_eq!(ended, GOOD, "{text}");
        let file: toml::Table = text.parse().expect("TOML");
        let table = file["profile"][name].as_table().expect("a table");
        assert!(tokenkeep::profile::parse(name, table).is_ok(), "{text}");
    }
    let (ended, said) = run(&stage, &["profile", "min"]).await;
    assert_eq!(ended, USAGE, "{said}");
    assert!(said.contains("did you mean `mine`?"), "{said}");
}

/// A stage whose configuration is yet to be written by `init`.
fn empty() -> Stage {
    let stage = Stage::new("");
    std::fs::remove_file(stage.path("tokenkeep.toml")).expect("removed");
    stage
}

#[tokio::test]
async fn init_with_a_profile_writes_a_configuration_that_add_completes() {
    let stage = empty();
    let init = ["init", "--profile", "vault", "--url", "https://vault.example.net:8200"];
    let (ended, said) = run(&stage, &[&init[..], &["--with", "role_id=r7"]].concat()).await;
    assert_eq!(ended, GOOD, "{said}");
    let file = stage.path("vault.secret_id");
    assert!(said.contains(&format!("Put secret_id into {}, alone", file.display())), "{said}");
    assert!(said.contains("add NAME --reauth vault --no-value\n"), "{said}");
    let text = stage.read("tokenkeep.toml");
    stage.write("vault.secret_id", &secret("secret-id"));
    stage.configure(&text);
    let (ended, said) = run(&stage, &["add", "app", "--reauth", "vault", "--no-value"]).await;
    assert_eq!(ended, GOOD, "{said}");
    assert!(!stage.path("state/app.token").exists());
    let (ended, said) = run(&stage, &["check-config"]).await;
    assert_eq!(ended, GOOD, "{said}");
    for words in [
        "server vault: https://vault.example.net:8200/, profile vault; 1 token",
        "server vault; queries, and renews where queries do not renew",
        "re-auth vault logs in by the login call of profile vault, at most 5 times",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
}

#[tokio::test]
async fn refresh_token_that_add_takes_becomes_a_file_of_the_daemon() {
    let stage = empty();
    stage.write("given.refresh", &secret("refresh"));
    let init = ["init", "--profile", "oauth2", "--url", "https://idp.example.net/oauth2"];
    let (ended, said) = run(&stage, &init).await;
    assert_eq!(ended, GOOD, "{said}");
    // The login would replace a person's token by one of the client.
    let (first, second) = said.split_once("\n  or: ").expect("two alternatives");
    assert!(first.contains("Next: ") && first.ends_with("add NAME --refresh-file FILE"), "{said}");
    assert!(second.ends_with("add NAME --reauth oauth2 --no-value\n"), "{said}");
    stage.configure(&stage.read("tokenkeep.toml"));
    let add = ["add", "feed", "--refresh-file", "given.refresh"];
    let (ended, said) = run(&stage, &add).await;
    assert_eq!(ended, GOOD, "{said}");
    assert_eq!(stage.read("state/feed.refresh").trim(), secret("refresh"));
    assert!(!stage.path("state/feed.token").exists());
    let entry = stage.read("conf.d/feed.toml");
    let (_, said) = run(&stage, &["doctor", "--offline"]).await;
    assert_eq!(said.matches("oauth2.client_id: there is no such file").count(), 1, "{said}");
    assert!(said.contains("until then a renewal with the refresh token gets a value"), "{said}");
    let (ended, said) = run(&stage, &["check-config"]).await;
    assert_eq!(ended, GOOD, "{said}");
    let kept = format!("refresh token  file {}", stage.path("state/feed.refresh").display());
    assert!(said.contains("; renews at each check, with its refresh token\n"), "{said}");
    assert!(!said.contains("no token uses"), "{said}");
    assert!(said.contains(&format!("{kept}; new ones replace it\n")), "{said}");

    stage.write("given.refresh", &secret("another"));
    let (ended, said) = run(&stage, &[&add[..], &["--replace"]].concat()).await;
    assert_eq!(ended, GOOD, "{said}");
    assert_eq!(stage.read("state/feed.refresh").trim(), secret("another"));
    assert_eq!(stage.read("conf.d/feed.toml"), entry);
    let (ended, said) = run(&stage, &["remove", "feed", "--delete-token"]).await;
    assert_eq!(ended, GOOD, "{said}");
    assert!(!stage.path("state/feed.refresh").exists());
}

#[tokio::test]
async fn remedy_of_init_for_a_profile_in_a_file_works() {
    let stage = empty();
    let init = ["init", "--url", "https://api.example.net", "--profile"];
    let (ended, said) = run(&stage, &[&init[..], &["./mine.toml"]].concat()).await;
    assert_eq!(ended, USAGE, "{said}");
    assert!(said.contains("from the file to tokenkeep.toml, then write --profile NAME"), "{said}");
    stage.write(
        "tokenkeep.toml",
        "[profile.mine]\nquery = { request = \"GET s/{token}\", life = \"ttl\", unit = \"s\" }\n",
    );
    let (ended, said) = run(&stage, &[&init[..], &["mine"]].concat()).await;
    assert_eq!(ended, GOOD, "{said}");
    assert!(stage.read("conf.d/server.toml").contains("profile = \"mine\""), "{said}");
}

#[tokio::test]
async fn add_and_init_refuse_what_the_profile_cannot_do() {
    let stage = empty();
    stage.write("r", &secret("refresh"));
    let url = ["--url", "https://api.example.net"];
    for (options, words) in [
        (&["--profile", "valt"][..], "did you mean `vault`?"),
        (&["--profile", "./mine.toml"], "copy [profile.NAME] from the file to"),
        (
            &["--profile", "vault", "--with", "user=x"],
            "no parameter `user`; it has role_id, secret_id",
        ),
        (&["--with", "user=x"], "profile sarus has no parameter `user`; it has none"),
        (
            &["--profile", "oauth2", "--with", "client_secret=correct horse"],
            "`client_secret` is a secret, and all users can read the configuration",
        ),
    ] {
        let (ended, said) = run(&stage, &[&["init"], &url[..], options].concat()).await;
        assert_eq!(ended, USAGE, "{options:?}: {said}");
        assert!(said.contains(words), "{words}\n{said}");
        assert!(!stage.path("tokenkeep.toml").exists());
    }
    stage.configure("[server.vault]\nurl = \"https://api.example.net\"\nprofile = \"vault\"\n");
    for (options, words) in [
        (&["--refresh-file", "r"][..], "profile vault of server vault has no refresh tokens"),
        (&["--no-value"], "add --reauth REAUTH"),
    ] {
        let (ended, said) = run(&stage, &[&["add", "quotes"], options].concat()).await;
        assert_eq!(ended, USAGE, "{options:?}: {said}");
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert!(!stage.path("conf.d").exists() && !stage.path("state").exists());
}

#[tokio::test]
async fn doctor_reads_parameters_and_refresh_tokens_and_renews_nothing() {
    let stage = staged();
    let server = server("403 Forbidden", r#"{"errors":["permission denied"]}"#).await;
    stage.configure(&format!(
        "{}\n[token.quotes]\nserver = \"renews\"\nfile = \"$DIR/quotes.token\"\nrefresh = {{ file = \
         \"$DIR/missing.refresh\" }}\n[server.renews]\nurl = \"{url}\"\nprofile = \"renews\"\nwith = {{ \
         client_secret = {{ file = \"$DIR/client.secret\" }} }}\n[reauth.vault]\nlogin = true\nwith = {{ \
         role_id = \"r7\", secret_id = {{ file = \"$DIR/missing\" }} }}\n[server.vault]\nurl = \
         \"{url}\"\nprofile = \"vault\"\n[token.app]\nserver = \"vault\"\nreauth = \"vault\"\nfile = \
         \"$DIR/app.token\"\n",
        "[profile.renews]\nrenew = { request = 'POST token', form = { r = '{refresh}', c = \
         '{client_secret}' }, value = 'v', refresh = 'r', life = 'l', unit = 's' }",
        url = server.url(),
    ));
    let (ended, said) = run(&stage, &["doctor"]).await;
    assert_eq!(ended, 2, "{said}");
    for words in [
        "error: `token.quotes.refresh`, ",
        "missing.refresh: there is no such file",
        "error: `reauth.vault.with.secret_id`, ",
        "ok: [server.renews] not queried: its profile has no `query`",
        "ok: [server.vault] the server responds; there is no token value to send",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert!(!said.contains("client_secret"), "{said}");
    assert!(server.requests().iter().all(|request| request.starts_with("GET /v1/auth/token/")));
    std::fs::set_permissions(stage.path("client.secret"), PermissionsExt::from_mode(0o644))
        .expect("a mode");
    let (_, said) = run(&stage, &["doctor", "--offline"]).await;
    assert!(said.contains("warning: `server.renews.with.client_secret`, "), "{said}");
}

#[tokio::test]
async fn add_and_doctor_do_without_a_credential_that_only_the_service_has() {
    let stage = empty();
    let server = server("500 Broken", "").await;
    stage.configure(&format!(
        "[server.idp]\nurl = \"{}\"\nprofile = \"oauth2\"\nwith = {{ client_id = \"keeper\", \
         client_secret = {{ credential = \"idp-secret\" }} }}\n",
        server.url()
    ));
    stage.write("value", &secret("quotes"));
    let value = std::fs::File::open(stage.path("value")).expect("the file");
    let (ended, said) = run_with(&stage, &["add", "quotes"], value.into()).await;
    assert_eq!(ended, GOOD, "{said}");
    let words = "because only the service has the value of `with.client_secret` of [server.idp]";
    assert!(said.contains(words), "{said}");
    let (ended, said) = run(&stage, &["doctor"]).await;
    assert_eq!(ended, 1, "only warnings: {said}");
    let words = "warning: `server.idp.with.client_secret`, ";
    assert!(said.contains(words) && said.contains("not checked"), "{said}");
    assert!(!said.contains("error: [server.idp]"), "{said}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn assumed_life_is_marked_wherever_it_is_shown() {
    let stage = staged();
    let body = format!(r#"{{"result":{{"sessionid":"{}"}}}}"#, secret("quotes"));
    let server = server("200 OK", &body).await;
    stage.configure(&format!(
        "[server.zabbix]\nurl = \"{}\"\nprofile = \"zabbix\"\n[token.quotes]\nserver = \
         \"zabbix\"\nfile = \"$DIR/quotes.token\"\nreauth = \"r\"\nreauth_before = \"30s\"\n\
         [reauth.r]\ncommand = [\"/bin/false\"]\n",
        server.url()
    ));
    let (ended, said) = run(&stage, &["check-config"]).await;
    assert_eq!(ended, GOOD, "{said}");
    assert!(said.contains("assumes a life of 1 min 30 s after each, so that no renewal"), "{said}");
    assert!(!said.contains("before its end"), "{said}");
    let daemon = stage.start();
    let checked = daemon.event("token_checked", "quotes").await;
    assert!(checked.has("assumed") && !checked.has("renewed"));
    assert!(checked.text("message").starts_with("alive, assumed 1 min 30 s left; next check in "));
    let detail = get(&stage, "/v1/tokens/quotes").await.json();
    assert_eq!((&detail["assumed"], &detail["endless"]), (&true.into(), &Value::Null));
    let metrics = get(&stage, "/metrics").await.body;
    assert!(metrics.contains("tokenkeep_tokens_assumed{server=\"zabbix\"} 1\n"), "{metrics}");
    for (arguments, words) in [
        (&["status"][..], "quotes is alive, assumed until "),
        (&["status", "quotes"], "assumed until "),
        (&["check", "quotes"], "quotes: alive, assumed "),
    ] {
        let (ended, said) = run(&stage, arguments).await;
        assert_eq!(ended, GOOD, "{said}");
        assert!(said.contains(words), "{words}\n{said}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn endless_token_is_shown_as_one_that_does_not_expire() {
    let stage = staged();
    let server = server("200 OK", r#"{"data":{"ttl":0,"expire_time":null}}"#).await;
    stage.configure(&format!(
        "[server.vault]\nurl = \"{}\"\nprofile = \"vault\"\n[token.quotes]\nserver = \
         \"vault\"\nfile = \"$DIR/quotes.token\"\n",
        server.url()
    ));
    let daemon = stage.start();
    let checked = daemon.event("token_checked", "quotes").await;
    assert_eq!(checked.number("remaining_ms"), 366 * 86_400_000);
    assert!(checked.text("message").starts_with("alive, does not expire; next check in "));
    assert!(!checked.has("assumed") && !checked.has("renewed"));
    let detail = get(&stage, "/v1/tokens/quotes").await.json();
    assert_eq!((&detail["endless"], &detail["assumed"]), (&true.into(), &Value::Null));
    let (ended, said) = run(&stage, &["status"]).await;
    assert_eq!(ended, GOOD, "{said}");
    assert!(said.starts_with("quotes is alive and does not expire; "), "{said}");
    daemon.stop().await;
}
