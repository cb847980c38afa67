//! Mounts and limits for one process alone, in namespaces of its own.

use std::process::Stdio;

use tokio::process::Command;

/// `command`, started after the shell script `mounts` in a mount namespace of its own. `None`, and
/// a line that says so, where this machine does not permit that.
pub(crate) async fn with_mounts(command: Command, mounts: &str) -> Option<Command> {
    let mut permitted = Command::new("unshare");
    permitted.args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]);
    permitted.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !permitted.status().await.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this needs root and a mount namespace");
        return None;
    }
    Some(within("--mount", &command, mounts))
}

/// `command`, started after the shell script `limits` as root of a user namespace that maps its
/// own user only, as `PrivateUsers=` of a unit does. `None`, and a line that says so, where this
/// machine does not permit that.
pub(crate) async fn in_user_namespace(command: Command, limits: &str) -> Option<Command> {
    let mut permitted = Command::new("unshare");
    permitted.args(["-Ur", "sh", "-ec", limits]);
    permitted.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !permitted.status().await.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this needs a user namespace and the right to limit it");
        return None;
    }
    Some(within("-Ur", &command, limits))
}

/// `command`, started after the shell script `first` in a namespace of this kind.
fn within(namespace: &str, command: &Command, first: &str) -> Command {
    let inner = command.as_std();
    let mut outer = Command::new("unshare");
    outer
        .args([namespace, "sh", "-ec"])
        .arg(format!("{first}\nexec \"$0\" \"$@\""))
        .arg(inner.get_program())
        .args(inner.get_args())
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    outer
}
