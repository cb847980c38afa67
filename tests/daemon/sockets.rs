//! Where the control socket is, and what happens if its file is removed, cannot be made, or is
//! handed over by systemd.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use crate::support::{
    Daemon, Stage, mode, read, seconds, secret, server_table, simulator, token_table, until,
};

/// A stage for one token; `control` is the table `[control]`.
async fn staged(control: &str) -> Stage {
    let server = simulator().await;
    let tables = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&(tables + control));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    // It lasts as long as the test.
    std::mem::forget(server);
    stage
}

/// `tokenkeep status` with this `$RUNTIME_DIRECTORY`: its exit status, and what it says.
async fn status(stage: &Stage, directory: &str) -> (Option<i32>, String) {
    let mut command = stage.command("status");
    let output = command.env("RUNTIME_DIRECTORY", directory).output().await.expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("UTF-8"))
}

#[tokio::test]
async fn the_default_socket_is_in_the_first_runtime_directory() {
    let stage = staged("[control]\n").await;
    for directory in ["run/tokenkeep/a", "run/tokenkeep/b"] {
        fs::create_dir_all(stage.path(directory)).expect("a directory");
    }
    let [a, b] = ["a", "b"].map(|name| stage.path(&format!("run/tokenkeep/{name}")));
    let list = format!("{}:{}", a.display(), b.display());
    let daemon = stage.start_with(&[("RUNTIME_DIRECTORY", &list)]);
    daemon.event("token_checked", "quotes").await;
    assert_eq!(mode(&a.join("control.sock")), 0o660);
    assert!(!b.join("control.sock").exists());
    let (code, said) = status(&stage, &list).await;
    assert_eq!(code, Some(0), "{said}");
    daemon.stop().await;
    assert!(!a.join("control.sock").exists());

    // A daemon that does not run is not mistaken for another one.
    let (code, said) = status(&stage, &list).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(a.join("control.sock").to_str().expect("UTF-8")), "{said}");
}

#[tokio::test]
async fn a_configured_socket_wins_over_the_runtime_directory() {
    let stage = staged("").await;
    let directory = stage.path("tokenkeep");
    fs::create_dir(&directory).expect("a directory");
    let directory = directory.to_str().expect("UTF-8");
    let daemon = stage.start_with(&[("RUNTIME_DIRECTORY", directory)]);
    daemon.event("token_checked", "quotes").await;
    assert!(stage.path("control.sock").exists());
    let (code, said) = status(&stage, directory).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_dir(directory).expect("a directory").count(), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn command_in_another_service_uses_the_systems_daemon() {
    let stage = staged("[control]\n").await;
    let (_, said) = status(&stage, "/run/monitoring").await;
    assert!(said.contains("/run/tokenkeep/control.sock"), "{said}");
    let (_, said) = status(&stage, "relative").await;
    assert!(said.contains("/run/tokenkeep/control.sock"), "{said}");
}

async fn warning(daemon: &Daemon, text: &str) {
    daemon
        .until(text, |lines| {
            let warns = |line: &&crate::support::Line| line.is("config_warning", "");
            lines.iter().filter(warns).any(|line| line.text("message").contains(text))
        })
        .await;
}

#[tokio::test]
async fn removed_or_replaced_socket_is_created_again() {
    let stage = staged("[control]\nsocket = \"$DIR/run/control.sock\"\n").await;
    let socket = stage.path("run/control.sock");
    fs::create_dir(stage.path("run")).expect("a directory");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let kept = UnixStream::connect(&socket).await.expect("a socket");

    fs::remove_file(&socket).expect("removed");
    until("the socket is there again", || socket.exists()).await;
    assert_eq!(mode(&socket), 0o660);
    answers(&socket).await;
    warning(&daemon, "it was created again").await;
    assert_eq!(read(kept, "GET", "/healthz", "").await.status, 200, "connections go on");

    // A socket that nobody listens on.
    fs::remove_file(&socket).expect("removed");
    drop(UnixListener::bind(&socket).expect("a socket"));
    until("the socket is answered again", || listens(&socket)).await;

    // The directory, with the socket.
    fs::remove_dir_all(stage.path("run")).expect("removed");
    warning(&daemon, "cannot be created again").await;
    fs::create_dir(stage.path("run")).expect("a directory");
    until("the socket is there again", || socket.exists()).await;
    answers(&socket).await;

    // What is no socket is left alone.
    let moved = stage.path("moved");
    fs::rename(stage.path("run"), &moved).expect("renamed");
    stage.write("run/control.sock", "a file");
    let lost = || daemon.lines().iter().filter(|line| line.0["error"].is_string()).count();
    until("it says so", || lost() == 2).await;
    assert_eq!(stage.read("run/control.sock"), "a file");
    fs::remove_file(&socket).expect("removed");
    until("the socket is there again", || socket.exists()).await;
    answers(&socket).await;
    daemon.stop().await;
    assert!(!socket.exists());
}

fn listens(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

async fn answers(socket: &Path) {
    let stream = UnixStream::connect(socket).await.expect("a socket");
    assert_eq!(read(stream, "GET", "/healthz", "").await.body, "ok\n");
}

#[tokio::test]
async fn socket_of_another_daemon_is_kept_until_that_daemon_ends() {
    let stage = staged("").await;
    let socket = stage.path("control.sock");
    let other = UnixListener::bind(&socket).expect("a socket");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    warning(&daemon, "no control socket").await;
    drop(other);
    warning(&daemon, "the control socket is served now").await;
    answers(&socket).await;
    daemon.stop().await;
}

/// The daemon with these sockets handed over, as systemd does it.
fn activated(stage: &Stage, sockets: &[&dyn AsFd]) -> Command {
    let mut redirected = String::new();
    let duplicates: Vec<OwnedFd> = sockets
        .iter()
        .map(|socket| {
            // Above the numbers that the sockets get.
            let fd = rustix::io::fcntl_dupfd_cloexec(socket.as_fd(), 20).expect("a descriptor");
            fcntl_setfd(&fd, FdFlags::empty()).expect("inheritable");
            fd
        })
        .collect();
    for (index, fd) in duplicates.iter().enumerate() {
        use std::os::fd::AsRawFd as _;
        redirected += &format!(" {}<&{fd} {fd}<&-", index + 3, fd = fd.as_raw_fd());
    }
    // The process needs them open until it has started.
    std::mem::forget(duplicates);
    let run = stage.command("run");
    let run = run.as_std();
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("exec \"$@\"{redirected}"), "bash"])
        .arg(run.get_program())
        .args(run.get_args())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LISTEN_FDS", sockets.len().to_string())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn every_socket_that_systemd_hands_over_is_served_or_reported() {
    let stage = staged("").await;
    let [first, second] = ["first.sock", "second.sock"].map(|name| stage.path(name));
    let [one, two] = [&first, &second].map(|path| UnixListener::bind(path).expect("a socket"));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let datagram = UnixDatagram::bind(stage.path("datagram")).expect("a socket");
    let daemon = Daemon::start(activated(&stage, &[&one, &two, &tcp, &datagram]));
    daemon.event("token_checked", "quotes").await;
    answers(&first).await;
    answers(&second).await;
    let address = tcp.local_addr().expect("an address");
    let stream = TcpStream::connect(address).await.expect("a listener");
    assert_eq!(read(stream, "GET", "/healthz", "").await.body, "ok\n");
    let stream = TcpStream::connect(address).await.expect("a listener");
    assert_eq!(read(stream, "GET", "/v1/tokens", "").await.status, 404, "nothing but to look");
    warning(&daemon, "a socket that systemd handed over is not served").await;
    let told = daemon.event("config_warning", "").await;
    assert!(told.text("error").contains("socket 4"), "{told:?}");
    assert!(!stage.path("control.sock").exists());

    // systemd's own file, which systemd does not make again.
    fs::remove_file(&first).expect("removed");
    until("the socket is there again", || first.exists()).await;
    answers(&first).await;
    daemon.stop().await;
    assert!(second.exists(), "it is systemd's");
}

#[tokio::test]
async fn invalid_configuration_answers_clients_of_a_handed_over_socket() {
    let stage = staged("").await;
    stage.configure("jitter = 0.1\n");
    let socket = stage.path("control.sock");
    let systemd = UnixListener::bind(&socket).expect("a socket");
    // As many as systemd would trip over, and one that says nothing.
    let silent = UnixStream::connect(&socket).await.expect("a socket");
    let ask = || async {
        let stream = UnixStream::connect(&socket).await.expect("a socket");
        read(stream, "GET", "/v1/health", "").await
    };
    let asked: Vec<_> = (0..30).map(|_| Box::pin(ask())).collect();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let public = async {
        let stream = TcpStream::connect(tcp.local_addr().expect("an address")).await;
        read(stream.expect("a listener"), "GET", "/healthz", "").await
    };
    let daemon = Daemon::start(activated(&stage, &[&systemd, &tcp]));
    let answer = public.await;
    assert_eq!(answer.status, 503);
    assert!(!answer.body.contains("jitter"), "anybody may read it: {answer:?}");
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!((answer.status, &*answer.problem()), (503, "unavailable"));
        assert!(answer.body.contains("there is no key `jitter`"), "{answer:?}");
    }
    let output = stage.command("status").output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the daemon cannot start"), "{said}");
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(78));
    // Nothing waits any more, so that systemd has no reason to start the service again.
    systemd.set_nonblocking(true).expect("a socket");
    let waiting = systemd.accept().map(|_| ());
    assert!(waiting.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    drop(silent);
}

#[tokio::test]
async fn socket_is_created_once_its_directory_exists() {
    let stage = staged("[control]\nsocket = \"$DIR/later/control.sock\"\n").await;
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    warning(&daemon, "no control socket").await;
    fs::create_dir(stage.path("later")).expect("a directory");
    warning(&daemon, "the control socket is served now").await;
    answers(&stage.path("later/control.sock")).await;
    assert!(!daemon.lines().iter().any(|line| line.0.to_string().contains(&secret("quotes"))));
    daemon.stop().await;
}
