//! Commands: the program exists, is executable, and so is its interpreter.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::diagnosis::Diagnosis;

/// Number of bytes that the kernel reads to find the interpreter.
const HEAD: usize = 256;

/// Reports why the command of the key `key` cannot be started.
pub(super) fn check(key: &str, command: &[String], diagnosis: &Diagnosis) {
    let Some(program) = command.first() else { return };
    let place = format!("`{key}`, {program}");
    let Some(path) = find(program) else {
        diagnosis.error(format!("{place}: {}", missing(program)));
        return;
    };
    if let Some(problem) = not_executable(&path) {
        diagnosis.error(format!("{place}: {problem}"));
    } else if let Some(problem) = bad_interpreter(&path) {
        diagnosis.error(format!("{place}: {problem}"));
    }
    let is_open = |path: &Path| {
        fs::metadata(path).is_ok_and(|metadata| {
            let mode = metadata.permissions().mode();
            // Files in a sticky directory are safe from everyone but their owners.
            mode & 0o002 != 0 && !(metadata.is_dir() && mode & 0o1000 != 0)
        })
    };
    if let Some(open) =
        [Some(path.as_path()), path.parent()].into_iter().flatten().find(|path| is_open(path))
    {
        diagnosis.warning(format!(
            "{place}: every user may change {} and so run programs as the service's user; run \
             `chmod o-w` on it",
            open.display()
        ));
    }
}

/// The sentence for a program that does not exist; `None` if it exists, or if its path is relative
/// and so depends on where the daemon is started.
pub(super) fn missing_program(command: &[String]) -> Option<String> {
    let program = command.first()?;
    if program.contains('/') && !program.starts_with('/') {
        return None;
    }
    find(program).is_none().then(|| format!("{program}: {}", missing(program)))
}

fn missing(program: &str) -> &'static str {
    if program.contains('/') {
        "there is no such program; check the path, or install it"
    } else {
        "there is no such program in $PATH; write its full path, or install it"
    }
}

/// The file of a program; one without a slash is looked for in `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        // Without the right to enter its folder, it may exist.
        let path = Path::new(program);
        return path.try_exists().unwrap_or(true).then(|| path.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn not_executable(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Err(error) => {
            return Some(format!(
                "it cannot be examined ({error}); let the service's user search its directories"
            ));
        }
        Ok(metadata) if !metadata.is_file() => {
            return Some("it is not a file; name a program".to_owned());
        }
        Ok(_) => {}
    }
    if statvfs(path)
        .is_ok_and(|system| system.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
    {
        return Some("its file system is mounted with `noexec`; move the program".to_owned());
    }
    let denied = access(path, Access::EXEC_OK).is_err();
    denied.then(|| {
        "it is not executable for the service's user; run `chmod +x` on it, or check its owner"
            .to_owned()
    })
}

/// What is wrong with the first line of a script.
fn bad_interpreter(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    // Programs that are not readable, but executable, are no scripts.
    let Ok(file) = File::open(path) else {
        return None;
    };
    file.take(HEAD as u64).read_to_end(&mut head).ok()?;
    if head.starts_with(b"\x7fELF") {
        return None;
    }
    let Some(line) = head.strip_prefix(b"#!") else {
        return Some(
            "it is neither a binary nor a script that names its interpreter; write `#!/bin/sh` on \
             its first line"
                .to_owned(),
        );
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        return Some(
            "its first line ends in a carriage return, which becomes part of the interpreter's \
             name; save it with Unix line endings"
                .to_owned(),
        );
    }
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let interpreter = Path::new(std::ffi::OsStr::from_bytes(words.next().unwrap_or_default()));
    if interpreter.as_os_str().is_empty() {
        return Some("its first line names no interpreter; write `#!/bin/sh`".to_owned());
    }
    if let Some(problem) = unusable(interpreter) {
        return Some(format!("its interpreter, {}, {problem}", interpreter.display()));
    }
    if interpreter.file_name().is_some_and(|name| name == "env") {
        let is_option = |word: &&[u8]| word.starts_with(b"-") || word.contains(&b'=');
        let name = words.find(|word| !is_option(word))?;
        let name = String::from_utf8_lossy(name);
        if find(&name).is_none() {
            return Some(format!(
                "its interpreter, {name}, is not in $PATH; install it, or write its full path on \
                 the first line"
            ));
        }
    }
    None
}

fn unusable(interpreter: &Path) -> Option<&'static str> {
    if !interpreter.exists() {
        return Some("does not exist; install it, or correct the first line");
    }
    access(interpreter, Access::EXEC_OK).err().map(|_| "is not executable; run `chmod +x` on it")
}
