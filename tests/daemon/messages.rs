//! Messages that send the reader to the right place: the unit's sandbox, a restart, one line.

use rustix::process::Signal;

use crate::support::{
    Daemon, Stage, in_user_namespace, seconds, server_table, simulator, token_table, with_mounts,
};

/// A token that takes its value from `source`, and no server that answers.
fn configuration(source: &str) -> String {
    format!(
        "[server.sarus]\nurl = \"http://127.0.0.1:1\"\n[token.quotes]\nserver = \"sarus\"\n{source}\n"
    )
}

/// Why the token has no value, in the words of a daemon with these environment variables.
async fn missing(source: &str, variables: &[(&str, &str)]) -> String {
    let stage = Stage::new(&configuration(source));
    let daemon = stage.start_with(variables);
    let error = daemon.event("token_missing", "quotes").await.text("error").to_owned();
    daemon.stop().await;
    error
}

const AS_SERVICE: [(&str, &str); 1] = [("INVOCATION_ID", "0123456789abcdef0123456789abcdef")];

#[tokio::test]
async fn file_that_the_sandbox_may_hide_names_the_setting_to_a_service_only() {
    for (file, setting) in [
        ("/home/tokenkeep-nowhere/quotes.token", "ProtectHome="),
        ("/root/tokenkeep-nowhere/quotes.token", "ProtectHome="),
        ("/run/user/4000001/quotes.token", "ProtectHome="),
        ("/tmp/tokenkeep-nowhere/quotes.token", "PrivateTmp="),
        ("/var/tmp/tokenkeep-nowhere/quotes.token", "PrivateTmp="),
    ] {
        let source = format!("file = \"{file}\"");
        let said = missing(&source, &AS_SERVICE).await;
        assert!(said.contains(file) && said.contains(setting), "{said}");
        let said = missing(&source, &[]).await;
        assert!(!said.contains(setting), "{said}");
    }
    let said = missing("file = \"/etc/tokenkeep-nowhere/quotes.token\"", &AS_SERVICE).await;
    assert!(!said.contains("ProtectHome") && !said.contains("PrivateTmp"), "{said}");
}

#[tokio::test]
async fn directory_that_systemd_has_hidden_is_recognised_by_its_mount() {
    let stage = Stage::new(&configuration("file = \"/home/trader/quotes.token\""));
    let mounts = "mount -t tmpfs none /mnt; mkdir -p /mnt/systemd/inaccessible/dir\n\
                  mount --bind /mnt/systemd/inaccessible/dir /home";
    let Some(command) = with_mounts(stage.command("run"), mounts).await else { return };
    let daemon = Daemon::start(command);
    let error = daemon.event("token_missing", "quotes").await.text("error").to_owned();
    assert!(error.contains("by `ProtectHome=` of the unit"), "{error}");
    daemon.stop().await;
}

#[tokio::test]
async fn remedies_name_the_unit_for_a_service_only() {
    for source in ["credential = \"quotes\"", "env = \"QUOTES\""] {
        let said = missing(source, &[]).await;
        assert!(!said.contains("the unit") && !said.contains("the service"), "{said}");
        let said = missing(source, &AS_SERVICE).await;
        assert!(said.contains("the unit") || said.contains("the service"), "{said}");
    }
}

#[tokio::test]
async fn rejected_reload_is_one_line_with_every_error() {
    let server = simulator().await;
    let good = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&good);
    stage.token("quotes");
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    stage.configure(&format!("{good}colour = 1\n[schedule]\njitter = 7\n"));
    daemon.signal(Signal::HUP);
    let line = daemon.event("config_rejected", "").await;
    let error = line.text("error");
    assert!(!error.contains('\n') && error.contains("; "), "{error}");
    assert!(error.contains("`colour`") && error.contains("jitter"), "{error}");
    assert!(!line.text("message").contains('\n'));
    daemon.stop().await;
}

/// What `check-config` says about a token with this source and no `reauth`.
async fn plan(source: &str) -> String {
    let stage = Stage::new(&configuration(source));
    let output = stage.command("check-config").output().await.expect("it starts");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn source_that_changes_only_at_a_restart_is_not_called_watched() {
    for source in ["credential = \"quotes\"", "env = \"QUOTES\""] {
        let said = plan(source).await;
        assert!(said.contains("restart") && !said.contains("watched"), "{said}");
    }
    let said = plan("file = \"/etc/tokenkeep-nowhere/quotes.token\"").await;
    assert!(said.contains("the source is watched"), "{said}");
}

#[tokio::test]
async fn readers_whom_the_user_namespace_does_not_map_are_warned_of_at_start_and_reload() {
    let server = simulator().await;
    let keys = |readers: &str| format!("readers = [{readers}]");
    let configured = |readers: &str| {
        server_table("sarus", &server, "") + &token_table("quotes", "sarus", &keys(readers))
    };
    let stage = Stage::new(&configured("\"0\", \"4000001\""));
    server.add_token(&stage.token("quotes"), seconds(600));
    let Some(command) = in_user_namespace(stage.command("run"), "").await else { return };
    let daemon = Daemon::start(command);
    let warning = daemon.event("config_warning", "").await;
    let said = warning.text("message");
    assert!(said.contains("uid_map") && said.ends_with(": 4000001"), "{said}");
    stage.configure(&configured("\"4000002\", \"@4000003\""));
    daemon.signal(Signal::HUP);
    let warning = daemon.nth(2, "config_warning", "").await;
    assert!(warning.text("message").ends_with(": 4000002, @4000003"), "{warning:?}");
    daemon.stop().await;
}
