//! The container image: its file system, run as a container runtime runs it, but without a runtime.
//!
//! `contrib/container/root-fs` builds the file system, as in the Dockerfile. User, environment,
//! command and health check are read from the Dockerfile too.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{
    Daemon, Ended, Stage, free_port, login_simulator, mode, read, secret, server_table,
};

const DOCKERFILE: &str = include_str!("../../Dockerfile");

/// A user that is in no file of the image, with group 0, as some clusters choose it.
const USER: &str = "54321:0";

/// What a container runtime does, then the image's entry point: a read-only root, a tmpfs, a volume,
/// and read-only mounts of the configuration and the secrets.
const RUNTIME: &str = r#"
mount --bind "$IMAGE" "$IMAGE"
mount --bind "$IMAGE/var/lib/tokenkeep" "$IMAGE/var/lib/tokenkeep"
mount -t tmpfs -o mode=0755 run "$IMAGE/run"
chmod 1777 "$IMAGE/run"
mount -t proc proc "$IMAGE/proc"
for folder in etc/tokenkeep secrets; do
    mount --bind "$DIR/$folder" "$IMAGE/$folder"
    mount -o remount,bind,ro "$IMAGE/$folder"
done
mount -o remount,bind,ro "$IMAGE"
exec env --ignore-environment $VARIABLES "$(command -v chroot)" --userspec="$USER" --groups= "$IMAGE" "$@"
"#;

/// The words of the Dockerfile's instruction `name`, which has the form of a JSON list.
fn words(name: &str) -> Vec<String> {
    let line = DOCKERFILE.lines().find_map(|line| line.strip_prefix(name));
    serde_json::from_str(line.expect(name)).expect("a list")
}

/// The environment that the image sets.
fn variables() -> String {
    let lines = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("ENV "));
    lines.collect::<Vec<_>>().join(" ")
}

/// The image's file system in the folder `image` of the stage; `false` if this machine cannot make it.
async fn build(stage: &Stage) -> bool {
    let permitted = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    if !permitted.await.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this needs root and namespaces");
        return false;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/container/root-fs");
    let mut command = Command::new(script);
    command.arg(env!("CARGO_BIN_EXE_tokenkeep")).arg(stage.path("image"));
    let built = command.output().await.expect("a shell");
    assert!(built.status.success(), "{built:?}");
    // A runtime creates mount points.
    fs::create_dir(stage.path("image/secrets")).expect("a folder");
    true
}

/// Makes the mounted folders readable for the container's user.
async fn make_readable(stage: &Stage) {
    let folders = ["etc", "secrets"].map(|name| stage.path(name));
    let made = Command::new("chmod").args(["-R", "a+rX"]).args(folders).status().await;
    assert!(made.expect("chmod").success());
}

/// A running container. The first process is killed when this is dropped, and all others with it.
struct Container(Option<Daemon>);

impl Container {
    /// Starts the image's entry point as the first process of its namespaces.
    fn start(stage: &Stage, variables: &str) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "sh", "-euc", RUNTIME, "sh"])
            .args(words("ENTRYPOINT "))
            .args(words("CMD "))
            .env("DIR", stage.path(""))
            .env("IMAGE", stage.path("image"))
            .env("USER", USER)
            .env("VARIABLES", variables)
            .stdin(Stdio::null());
        Self(Some(Daemon::start(command)))
    }

    fn daemon(&self) -> &Daemon {
        self.0.as_ref().expect("it runs")
    }

    /// The first process, as seen from outside; `None` if it has ended.
    fn first_process(&self) -> Option<Pid> {
        let parent = self.0.as_ref()?.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        children.trim().parse().ok().and_then(Pid::from_raw)
    }

    /// Runs a command in the container, as `docker exec` does.
    async fn exec(&self, command: &[String]) -> Output {
        let (user, group) = USER.split_once(':').expect("both");
        let process = self.first_process().expect("it runs").as_raw_nonzero().to_string();
        let mut entered = Command::new("nsenter");
        entered
            .args(["--target", &process, "--mount", "--pid", "--root", "--wd"])
            .args(["--setuid", user, "--setgid", group, "--"])
            .args(command)
            .env_clear()
            .envs(variables().split(' ').filter_map(|variable| variable.split_once('=')));
        entered.output().await.expect("nsenter")
    }

    /// Stops the container as `docker stop` does.
    async fn stop(mut self) -> Ended {
        kill_process(self.first_process().expect("it runs"), Signal::TERM).expect("it runs");
        let ended = self.0.take().expect("it runs").ended().await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        ended
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(process) = self.first_process() {
            // It may have ended meanwhile.
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

#[tokio::test]
async fn image_keeps_a_token_on_a_read_only_root_as_an_arbitrary_user_without_home() {
    let server = login_simulator().await;
    let port = free_port();
    let stage = Stage::new("");
    if !build(&stage).await {
        return;
    }
    let configuration = server_table("sarus", &server, "")
        + "[reauth.login]\napi_key_file = \"/secrets/api-key\"\n\
           [token.quotes]\nserver = \"sarus\"\nreauth = \"login\"\n\
           file = \"/var/lib/tokenkeep/quotes.token\"\n";
    stage.write("etc/tokenkeep/tokenkeep.toml", &configuration);
    // The layout of a Secret that the kubelet mounts as a folder.
    stage.write("secrets/..2026/api-key", &secret("wrong"));
    symlink("..2026", stage.path("secrets/..data")).expect("a link");
    symlink("..data/api-key", stage.path("secrets/api-key")).expect("a link");
    make_readable(&stage).await;

    let listen = format!("{} TOKENKEEP__CONTROL__LISTEN=0.0.0.0:{port}", variables());
    let container = Container::start(&stage, &listen);
    container.daemon().event("reauth_failed", "quotes").await;
    // The Secret is changed: the next login uses the new key.
    stage.write("secrets/..2027/api-key", &secret("key"));
    make_readable(&stage).await;
    symlink("..2027", stage.path("secrets/..data.new")).expect("a link");
    fs::rename(stage.path("secrets/..data.new"), stage.path("secrets/..data")).expect("renamed");
    container.daemon().event("reauth_succeeded", "quotes").await;
    container.daemon().event("token_replaced", "quotes").await;
    let file = stage.path("image/var/lib/tokenkeep/quotes.token");
    assert_eq!(mode(&file), 0o600);

    // Docker runs the health check, the kubelet probes the pod's address.
    let health = words("HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ");
    let health = container.exec(&health).await;
    assert!(health.status.success(), "{health:?}");
    assert!(health.stdout.starts_with(b"TOKENKEEP OK"), "{health:?}");
    for path in ["/healthz", "/readyz"] {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
        let answer = read(stream, "GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }

    let ended = container.stop().await;
    for event in ["config_warning", "store_failed", "config_rejected"] {
        assert_eq!(ended.count(event, ""), 0, "{:?}", ended.all(event, ""));
    }

    // The volume outlives the container.
    let container = Container::start(&stage, &variables());
    let checked = container.daemon().event("token_checked", "quotes").await;
    assert!(checked.0["remaining_ms"].as_u64().expect("a life") <= 60_000);
    assert_eq!(container.daemon().count("reauth_started", ""), 0);
    container.stop().await;
}

#[tokio::test]
async fn image_knows_certificate_authorities_and_says_what_it_cannot_write() {
    let stage = Stage::new("");
    if !build(&stage).await {
        return;
    }
    let closed = free_port();
    let configuration = format!(
        "[server.tls]\nurl = \"https://127.0.0.1:{closed}\"\n\
         [token.tls]\nserver = \"tls\"\nenv = \"T\"\n"
    );
    stage.write("etc/tokenkeep/tokenkeep.toml", &configuration);
    stage.write("secrets/unused", "");
    let state = stage.path("image/var/lib/tokenkeep");
    fs::set_permissions(state, Permissions::from_mode(0o700)).expect("its owner");
    make_readable(&stage).await;

    let container = Container::start(&stage, &format!("{} T={}", variables(), secret("tls")));
    let warning = container.daemon().event("config_warning", "").await;
    assert!(warning.0["message"].as_str().expect("text").contains("state"), "{warning:?}");
    let failed = container.daemon().event("check_failed", "tls").await;
    assert!(failed.0["error"].as_str().expect("text").contains("refused"), "{failed:?}");
    container.stop().await;
}
