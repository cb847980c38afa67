//! Namespaces: each scenario runs in a process with a network, mounts and process ids of its own.

use std::any::type_name;
use std::path::Path;
use std::process::{Command, Output};

/// Set in the process that runs the scenario itself.
const INSIDE: &str = "TOKENKEEP_CHAOS_INSIDE";

/// One scenario, its waiting included. The longest takes two minutes on an idle machine.
const SCENARIO_SECONDS: &str = "240";

/// The beginning of each line with figures: the suite.
const FIGURES: &str = concat!(env!("CARGO_CRATE_NAME"), ": ");

/// Runs a scenario in namespaces of its own. `scenario` is a closure in the test function: the
/// compiler's name for the closure contains the test's name, by which the test binary starts
/// itself again inside the namespaces.
pub(crate) fn isolated<F: AsyncFnOnce()>(scenario: F) {
    if std::env::var_os(INSIDE).is_none() {
        return outside(test_name::<F>());
    }
    run("ip", &["link", "set", "lo", "up"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(scenario());
}

/// The name of the test function that `F` was written in.
fn test_name<F>() -> &'static str {
    let path = type_name::<F>().split_once("::").expect("a path").1;
    path.split_once("::{{closure}}").expect("a closure").0
}

fn outside(test: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new("timeout")
        .args(["--signal=KILL", SCENARIO_SECONDS])
        .args(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(program)
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("TMPDIR", folder.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("timeout and unshare are installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("test result: ok. 1 passed");
    assert!(passed, "{test}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    for line in text.lines().filter_map(|line| line.split_once(FIGURES)) {
        println!("{FIGURES}{}", line.1);
    }
}

/// Prints the figures of a scenario in one line.
pub(crate) fn report(scenario: &str, figures: &str) {
    println!("\n{FIGURES}{scenario}: {figures}");
}

/// Runs a command that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let Output { status, stdout, stderr } =
        output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program} {arguments:?}: {status}: {stderr}");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Mounts `source` over `target`, both files or both directories.
pub(crate) fn bind_mount(source: &Path, target: &Path) {
    run("mount", &["--bind", utf8(source), utf8(target)]);
}

/// Makes the mount at `target` read-only, or writable again.
pub(crate) fn remount(target: &Path, mode: &str) {
    run("mount", &["-o", &format!("remount,bind,{mode}"), utf8(target)]);
}

/// Mounts an empty file system of this size.
pub(crate) fn small_disk(target: &Path, size: &str) {
    std::fs::create_dir_all(target).expect("a folder");
    run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", utf8(target)]);
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
