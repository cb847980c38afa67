//! `env_file`: applications find the current value of a token in a file for their environment.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Hung, Stage, configuration, mode, mortal_simulator, post, prints_new, seconds, secret,
    server_table, simulator, token_table, until,
};

const ENV_FILE: &str = "env_file = \"$DIR/app/token.env\"";

/// The line with the value of [`secret`] `name`.
fn line(name: &str) -> String {
    format!("QUOTES_TOKEN=\"{}\"\n", secret(name))
}

/// A live token with an `env_file`, whose re-auth prints another live one; `keys` are more keys of
/// the token.
async fn stage(keys: &str) -> (Simulator, Stage) {
    let server = mortal_simulator().await;
    let keys = format!("reauth = \"relogin\"\n{ENV_FILE}\n{keys}");
    let text = configuration(&server, "").replace("reauth = \"relogin\"", &keys);
    let stage = Stage::new(&text);
    server.add_token(&stage.token("quotes"), seconds(3_600));
    server.add_token(&secret("new"), seconds(3_600));
    stage.script("hook", &prints_new());
    fs::create_dir(stage.path("app")).expect("a folder");
    (server, stage)
}

#[tokio::test]
async fn env_file_is_written_at_startup_and_before_token_replaced_is_logged() {
    let (_server, stage) = stage("").await;
    let daemon = stage.start();
    // A service that is ordered after this one reads it then.
    daemon.event("daemon_ready", "").await;
    assert_eq!(stage.read("app/token.env"), line("quotes"));
    assert_eq!(mode(&stage.path("app/token.env")), 0o600);
    daemon.event("token_checked", "quotes").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/reauth").await.status, 202);
    let replaced = daemon.event("token_replaced", "quotes").await;
    assert_eq!(stage.read("app/token.env"), line("new"));
    assert_eq!(stage.read("quotes.token").trim(), secret("new"));
    assert_eq!(replaced.text("by"), "reauth");
    let ended = daemon.stop().await;
    assert_eq!((ended.count("token_replaced", ""), ended.count("store_failed", "")), (1, 0));
    assert_eq!(stage.read("app/token.env"), line("new"), "the last value stays");
}

#[tokio::test]
async fn token_without_a_file_has_an_env_file_with_the_configured_name_and_group() {
    let server = simulator().await;
    let group = fs::metadata("/proc/self").expect("a process").gid();
    let token = format!(
        "[token.quotes]\nserver = \"sarus\"\nenv = \"SOURCE\"\n{ENV_FILE}\n\
         env_name = \"API_KEY\"\nenv_group = \"{group}\"\n"
    );
    let stage = Stage::new(&(server_table("sarus", &server, "") + &token));
    fs::create_dir(stage.path("app")).expect("a folder");
    let value = secret("a\"b$c`d\\e");
    server.add_token(&value, seconds(3_600));
    let daemon = stage.start_with(&[("SOURCE", &value)]);
    daemon.event("token_checked", "quotes").await;
    let read = || stage.read("app/token.env");
    until("the value is exported", || !read().is_empty()).await;
    assert_eq!(read(), format!("API_KEY=\"{}\"\n", secret("a\\\"b\\$c\\`d\\\\e")));
    assert_eq!(mode(&stage.path("app/token.env")), 0o640);
    daemon.stop().await;
}

#[tokio::test]
async fn equal_env_file_is_not_written_again_after_a_restart() {
    let (_server, stage) = stage("").await;
    let inode = || fs::metadata(stage.path("app/token.env")).map(|file| file.ino()).ok();
    let daemon = stage.start();
    until("it is exported", || inode().is_some()).await;
    daemon.stop().await;
    let first = inode();
    // The end waits for all writes.
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    daemon.stop().await;
    assert_eq!(inode(), first);
}

#[tokio::test]
async fn env_file_that_was_removed_or_changed_is_restored_after_the_next_check() {
    let (_server, stage) = stage("").await;
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    daemon.event("token_checked", "quotes").await;
    for damage in ["", "QUOTES_TOKEN=\"other\"\n"] {
        fs::remove_file(stage.path("app/token.env")).expect("a file");
        if !damage.is_empty() {
            stage.write("app/token.env", damage);
        }
        assert_eq!(post(&stage, "/v1/tokens/quotes/check").await.status, 202);
        until("it is restored", || stage.read("app/token.env") == line("quotes")).await;
    }
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_replaced", "") + ended.count("store_failed", ""), 0);
}

#[tokio::test]
async fn env_file_that_cannot_be_written_is_logged_once_and_written_as_soon_as_possible() {
    let (_server, stage) =
        stage("schedule = { retry_initial = \"20ms\", retry_max = \"50ms\" }").await;
    fs::remove_dir(stage.path("app")).expect("it is empty");
    let daemon = stage.start();
    let failed = daemon.event("store_failed", "quotes").await;
    assert!(failed.text("error").contains("there is no such directory; create it"), "{failed:?}");
    assert!(failed.text("path").ends_with("/app/token.env"), "{failed:?}");
    daemon.event("token_checked", "quotes").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/reauth").await.status, 202);
    daemon.event("reauth_succeeded", "quotes").await;
    until("the file is written", || stage.read("quotes.token").trim() == secret("new")).await;
    assert_eq!(daemon.count("token_replaced", "quotes"), 0, "not before the env_file has it");
    fs::create_dir(stage.path("app")).expect("a folder");
    daemon.event("token_replaced", "quotes").await;
    assert_eq!(stage.read("app/token.env"), line("new"));
    let ended = daemon.stop().await;
    assert_eq!(ended.count("store_failed", ""), 1);
    let recovered = ended.all("config_warning", "quotes");
    assert_eq!((recovered.len(), recovered[0].text("level")), (1, "info"));
}

#[tokio::test]
async fn file_that_is_no_env_file_is_never_overwritten() {
    let (_server, stage) = stage("").await;
    stage.write("app/token.env", "[server.sarus]\nurl = \"https://s.example\"\n");
    let daemon = stage.start();
    let failed = daemon.event("store_failed", "quotes").await;
    assert!(failed.text("error").contains("so it is not replaced; move it away"), "{failed:?}");
    daemon.event("token_checked", "quotes").await;
    daemon.stop().await;
    assert!(stage.read("app/token.env").starts_with("[server.sarus]"));
}

#[tokio::test]
async fn dead_value_is_not_exported_and_the_file_keeps_its_last_value() {
    let server = mortal_simulator().await;
    let table = server_table("sarus", &server, "") + &token_table("quotes", "sarus", ENV_FILE);
    let stage = Stage::new(&table);
    let value = stage.token("quotes");
    server.add_token(&value, seconds(3_600));
    fs::create_dir(stage.path("app")).expect("a folder");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    until("it is exported", || stage.read("app/token.env") == line("quotes")).await;
    server.expire(&value);
    assert_eq!(post(&stage, "/v1/tokens/quotes/check").await.status, 202);
    daemon.event("token_expired", "quotes").await;
    assert_eq!(stage.read("app/token.env"), line("quotes"));
    // The next one comes from the operator.
    server.add_token(&secret("next"), seconds(3_600));
    stage.replace("quotes.token", &secret("next"));
    daemon.event("token_replaced", "quotes").await;
    assert_eq!(stage.read("app/token.env"), line("next"));
    daemon.stop().await;
}

#[tokio::test]
async fn value_that_was_replaced_while_no_daemon_ran_is_reported_when_the_env_file_has_it() {
    let server = mortal_simulator().await;
    let table = server_table("sarus", &server, "") + &token_table("quotes", "sarus", ENV_FILE);
    let stage = Stage::new(&table);
    server.add_token(&stage.token("quotes"), seconds(3_600));
    fs::create_dir(stage.path("app")).expect("a folder");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    until("it is exported", || stage.read("app/token.env") == line("quotes")).await;
    assert_eq!(daemon.stop().await.count("token_replaced", ""), 0);
    server.add_token(&secret("next"), seconds(3_600));
    stage.replace("quotes.token", &secret("next"));
    let daemon = stage.start();
    assert_eq!(daemon.event("token_replaced", "quotes").await.text("by"), "source");
    assert_eq!(stage.read("app/token.env"), line("next"));
    assert_eq!(daemon.stop().await.count("token_replaced", ""), 1);
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(daemon.stop().await.count("token_replaced", ""), 0, "it is reported once");
}

#[tokio::test]
async fn reload_adds_renames_and_ends_an_env_file() {
    let server = simulator().await;
    let with =
        |keys: &str| server_table("sarus", &server, "") + &token_table("quotes", "sarus", keys);
    let stage = Stage::new(&with(""));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    fs::create_dir(stage.path("app")).expect("a folder");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let reload = async |keys: &str| {
        stage.configure(&with(keys));
        daemon.signal(Signal::HUP);
        let reloaded = daemon.more(1, "config_reloaded", "").await;
        assert_eq!(reloaded.text("changed"), "quotes");
    };
    reload(ENV_FILE).await;
    until("it is exported", || stage.read("app/token.env") == line("quotes")).await;
    reload(&format!("{ENV_FILE}\nenv_name = \"OTHER\"")).await;
    let renamed = format!("OTHER=\"{}\"\n", secret("quotes"));
    until("the variable is renamed", || stage.read("app/token.env") == renamed).await;
    reload("").await;
    server.add_token(&stage.token("orders"), seconds(3_600));
    let orders = token_table("orders", "sarus", "env_file = \"$DIR/app/orders.env\"");
    stage.configure(&(with("") + &orders));
    daemon.signal(Signal::HUP);
    let added = format!("ORDERS_TOKEN=\"{}\"\n", secret("orders"));
    until("a new token is exported", || stage.read("app/orders.env") == added).await;
    server.add_token(&secret("next"), seconds(3_600));
    stage.replace("quotes.token", &secret("next"));
    daemon.event("token_replaced", "quotes").await;
    assert_eq!(stage.read("app/token.env"), renamed, "no token writes it now");
    daemon.nth(2, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_checked", "quotes"), 2, "a reload checks nothing");
}

#[tokio::test]
async fn env_file_on_a_hung_disk_delays_neither_checks_nor_control_nor_a_file() {
    let (_server, stage) = stage("schedule = { max_interval = \"1s\" }").await;
    let Some(_hung) = Hung::over(&stage.path("app")) else {
        return eprintln!("skipped: this needs root and /dev/fuse");
    };
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    daemon.nth(2, "token_checked", "quotes").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/reauth").await.status, 202);
    daemon.event("reauth_succeeded", "quotes").await;
    let failed = daemon.event("store_failed", "quotes").await;
    assert!(failed.text("error").contains("the disk did not respond"), "{failed:?}");
    until("the file is written", || stage.read("quotes.token").trim() == secret("new")).await;
    daemon.stop().await;
}

/// The status and the output of `check-config` for a token with these keys.
async fn check_config(more: &str, keys: &str) -> (Option<i32>, String) {
    let server = "[server.sarus]\nurl = \"https://api.example.net\"\n";
    let token =
        format!("[token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\n{keys}\n");
    let stage = Stage::new(&format!("{server}{token}{more}"));
    fs::create_dir(stage.path("state")).expect("a folder");
    let output = stage.command("check-config").output().await.expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("UTF-8"))
}

#[tokio::test]
async fn check_config_refuses_an_env_file_that_would_overwrite_another_file() {
    let other = "[token.orders]\nserver = \"sarus\"\nfile = \"$DIR/orders.token\"\nenv_file = \"$DIR/o.env\"\n";
    let folder = "[inventory.many]\nserver = \"sarus\"\ndir = \"$DIR/many\"\n";
    let login = "[reauth.login]\napi_key_file = \"$DIR/key\"\n";
    for (more, keys, said) in [
        ("", "env_file = \"$DIR/quotes.token\"", "is already used by `token.quotes.file`"),
        (other, "env_file = \"$DIR/orders.token\"", "is already used by `token.orders.file`"),
        (
            other,
            "env_file = \"$DIR/o.env\"",
            "`token.quotes.env_file` is already used by `token.orders.env_file`",
        ),
        (folder, "env_file = \"$DIR/many/x\"", "is already used by `inventory.many.dir`"),
        (
            login,
            "env_file = \"$DIR/key\"\nreauth = \"login\"",
            "is already used by `reauth.login.api_key_file`",
        ),
        ("", "env_file = \"token.env\"", "is a relative path"),
        ("", "env_file = \"$DIR/e\"\nenv_name = \"1A\"", "is not the name of a variable"),
        ("", "env_file = \"$DIR/e\"\nenv_group = \"a b\"", "is not the name of a group"),
        ("", "env_name = \"A\"", "`token.quotes.env_name` has no effect without `env_file`"),
        ("", "env_group = \"a\"", "`token.quotes.env_group` has no effect without `env_file`"),
    ] {
        let (status, text) = check_config(more, keys).await;
        assert!(text.contains(said), "{keys}: {text}");
        assert_eq!(status, Some(78), "{keys}: {text}");
        assert!(text.contains("1 error in the configuration"), "{keys}: {text}");
    }
}

#[tokio::test]
async fn check_config_and_doctor_warn_of_a_folder_that_every_user_may_write_to() {
    let (_server, stage) = stage("env_group = \"no-such-group-here\"").await;
    let mut command = tokio::process::Command::new("chmod");
    let changed = command.arg("0777").arg(stage.path("app")).status().await;
    assert!(changed.expect("it runs").success());
    for subcommand in ["check-config", "doctor"] {
        let mut command = stage.command(subcommand);
        if subcommand == "doctor" {
            command.arg("--offline");
        }
        let output = command.output().await.expect("it starts");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        assert!(text.contains("every user of this machine may write to its folder"), "{text}");
        assert!(text.contains("there is no group no-such-group-here; create it"), "{text}");
    }
    let (status, text) = check_config("", "env_file = \"$DIR/missing/e\"").await;
    assert_eq!(status, Some(0));
    assert!(text.contains("its folder does not exist; create it"), "{text}");
    assert!(text.contains("  applications   read QUOTES_TOKEN from "), "{text}");
}

#[tokio::test]
async fn doctor_reports_an_env_file_with_another_content() {
    let (_server, stage) = stage("").await;
    stage.write("app/token.env", "A=1\nB=2\n");
    let output = stage.command("doctor").arg("--offline").output().await.expect("it starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        text.contains("error: `token.quotes.env_file`, ") && text.contains("move it away"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn stop_waits_for_the_env_file_of_a_new_value() {
    let (_server, stage) = stage("").await;
    stage.script("hook", &format!("until [ -e $DIR/go ]; do sleep 0.02; done; {}", prints_new()));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/reauth").await.status, 202);
    daemon.event("reauth_started", "quotes").await;
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    stage.write("go", "");
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(stage.read("app/token.env"), line("new"));
    assert_eq!(ended.count("token_replaced", "quotes"), 1);
}
