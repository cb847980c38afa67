//! `env_file`: the current value of a token as a variable, for applications that read their
//! environment from a file.
//!
//! One line, `NAME="value"`. The quoting is what both POSIX shells and systemd's `EnvironmentFile=`
//! undo: in double quotes, `"`, `\`, `$` and the backtick have a backslash before them.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, fchown};
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::PersistError;
use super::atomic_replace::{existing, replace_target};
use super::symlinks::{chain, parent};
use crate::file::open_target;
use crate::secret::{MAX_VALUE_BYTES, TokenValue};
use crate::settings::EnvFile;
use crate::systemd::advice;
use crate::users::find_gid;

/// Files that are longer are not ours: twice the longest value, if each character is quoted, and
/// the longest name.
const MAX_BYTES: u64 = 2 * MAX_VALUE_BYTES as u64 + 4_096;

/// An `env_file` that has its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExportedFile {
    /// The id of its group, if it has an `env_group`.
    pub(crate) gid: Option<u32>,
    /// Whether it had another value before.
    pub(crate) had_other_value: bool,
}

/// Puts `value` into `file` atomically, unless the file has it already. A new file belongs to the
/// service's user, with mode 0600, or 0640 for its group. A file that has the value, this mode and
/// this group keeps its owner. `known_gid` is the id of the group, if it is known.
///
/// # Errors
///
/// The file cannot be replaced, cannot get its group, or has a content that is not an `env_file`'s:
/// it is unchanged. Repeating the call is harmless.
pub(crate) fn write_env_file(
    file: &EnvFile,
    known_gid: Option<u32>,
    value: &TokenValue,
) -> Result<ExportedFile, PersistError> {
    let group = file.group.as_deref();
    let gid = group.map(|group| known_gid.map_or_else(|| group_id(file, group), Ok)).transpose()?;
    let mode = if gid.is_some() { 0o640 } else { 0o600 };
    let content = line(&file.variable, value);
    let (target, old) = target_of(file)?;
    let mut exported = ExportedFile { gid, had_other_value: false };
    if old.is_some()
        && let Some((written, old)) = read_existing(&target, &file.variable)?
    {
        let is_same = |gid: u32| old.gid() == gid && old.mode() & 0o7777 == mode;
        if written == content && is_same(gid.unwrap_or(old.gid())) {
            return Ok(exported);
        }
        let before = assigned(&written);
        exported.had_other_value = before.is_some() && before != assigned(&content);
    }
    let failed = |doing| {
        let target = target.clone();
        move |error| PersistError::new(target, doing, error)
    };
    replace_target(&target, None, &content, |new| {
        let created = new.metadata().map_err(failed("examining the new file"))?;
        if let Some((gid, group)) = gid.zip(file.group.as_ref())
            && created.gid() != gid
        {
            // The shipped unit permits no `chown`: there a file gets its group from its folder.
            let changed = fchown(new, None, Some(Gid::from_raw(gid)));
            changed.map_err(|_| no_group(file, group, not_permitted()))?;
        }
        let mode = Permissions::from_mode(mode);
        new.set_permissions(mode).map_err(failed("setting the file's mode"))
    })?;
    Ok(exported)
}

/// The path of `file` after all symbolic links, and what is there; only a regular file may be. As
/// root, follows no link in a folder of another user, who could name any file.
fn target_of(file: &EnvFile) -> Result<(PathBuf, Option<Metadata>), PersistError> {
    if geteuid().is_root() {
        for link in chain(&file.path).filter(|step| step.is_symlink()) {
            let failed = |error| PersistError::new(&link, "following this symbolic link", error);
            if fs::metadata(parent(&link)).map_err(failed)?.uid() != 0 {
                return Err(failed(io::Error::other(
                    "root follows no link in a folder of another user; set `env_file` to the path \
                     of the file itself",
                )));
            }
        }
    }
    existing(&file.path)
}

fn not_permitted() -> &'static str {
    advice(
        "give its folder that group and mode 2750, or add `SupplementaryGroups=` with the group and \
         `SystemCallFilter=@chown` to the unit",
        "give its folder that group and mode 2750, or make the daemon's user a member of the group",
    )
}

/// Checks that the content of `file`, if it exists, may be replaced.
///
/// # Errors
///
/// It may not, or it cannot be examined.
pub(crate) fn check_env_file(file: &EnvFile) -> Result<(), PersistError> {
    match target_of(file)? {
        (target, Some(_)) => read_existing(&target, &file.variable).map(drop),
        (_, None) => Ok(()),
    }
}

fn group_id(file: &EnvFile, group: &str) -> Result<u32, PersistError> {
    let reason = "there is no such group; create it, or correct `env_group`";
    let found = find_gid(group).map_err(|_| {
        let reason = "the database of groups cannot be read; `getent group` shows whether it \
                      responds, and the write is retried";
        no_group(file, group, reason)
    })?;
    found.ok_or_else(|| no_group(file, group, reason))
}

fn no_group(file: &EnvFile, group: &str, reason: &'static str) -> PersistError {
    PersistError::Group { path: file.path.clone(), group: group.to_owned(), reason }
}

fn line(variable: &str, value: &TokenValue) -> Zeroizing<Vec<u8>> {
    let value = value.expose().as_bytes();
    let mut line = Zeroizing::new(Vec::with_capacity(variable.len() + 2 * value.len() + 4));
    line.extend_from_slice(variable.as_bytes());
    line.extend_from_slice(b"=\"");
    for byte in value {
        if matches!(byte, b'"' | b'\\' | b'$' | b'`') {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    line.extend_from_slice(b"\"\n");
    line
}

type ExistingFile = (Zeroizing<Vec<u8>>, Metadata);

/// The content and metadata of the file at `path`, which is no link; `None` if it was removed
/// meanwhile. A wrong path must not destroy what is there: a content that is not an `env_file`'s is
/// an error.
fn read_existing(path: &Path, variable: &str) -> Result<Option<ExistingFile>, PersistError> {
    let failed = |error| PersistError::new(path, "reading it", error);
    let opened = match open_target(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    // Another file than the one that was examined may be there by now.
    let metadata = opened.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(PersistError::NotAFile { path: path.to_owned() });
    }
    let foreign = || PersistError::NotAnEnvFile { path: path.to_owned() };
    if metadata.len() > MAX_BYTES {
        return Err(foreign());
    }
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_BYTES).unwrap_or(0)));
    opened.take(MAX_BYTES).read_to_end(&mut content).map_err(failed)?;
    if is_env_file(&content, variable) { Ok(Some((content, metadata))) } else { Err(foreign()) }
}

/// The value that `content` assigns, as it is written there, without double quotes; `None` if there
/// is none, or it is empty.
fn assigned(content: &[u8]) -> Option<&str> {
    let (_, value) = str::from_utf8(content).ok()?.trim_end().split_once('=')?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    Some(value).filter(|value| !value.is_empty())
}

/// Whether `content` is empty, one assignment to `variable`, or what this module wrote for another
/// variable.
fn is_env_file(content: &[u8], variable: &str) -> bool {
    let Ok(text) = str::from_utf8(content) else { return false };
    let line = text.trim_end();
    let Some((name, value)) = line.split_once('=') else { return line.is_empty() };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
    !line.contains('\n') && (name == variable || is_name && is_quoted)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};
    use std::process::Command;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use rustix::process::getegid;
    use tempfile::TempDir;

    use super::*;

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    fn env_file(group: Option<&str>) -> (TempDir, EnvFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.env");
        let group = group.map(str::to_owned);
        (folder, EnvFile { path, variable: "QUOTES_TOKEN".to_owned(), group })
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn write(file: &EnvFile, text: &str) -> Result<ExportedFile, PersistError> {
        write_env_file(file, None, &value(text))
    }

    #[test]
    fn file_is_one_quoted_line_for_the_service_alone() {
        let (_folder, file) = env_file(None);
        write(&file, "abc-123").unwrap();
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "QUOTES_TOKEN=\"abc-123\"\n");
        assert_eq!(mode(&file.path), 0o600);
    }

    #[test]
    fn shell_reads_every_character_of_a_value() {
        let odd = r#"a"b\c$HOME`id`'x'#!*?~;&|<>(){}[]^%+=/.-_:,@ü\\n$(id)${HOME}\"#;
        let (_folder, file) = env_file(None);
        write(&file, odd).unwrap();
        let script = ". \"$0\"; printf %s \"$QUOTES_TOKEN\"";
        let output = Command::new("sh").args(["-c", script]).arg(&file.path).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), odd);
        assert!(output.stderr.is_empty());
    }

    #[test]
    fn file_with_a_group_is_readable_by_that_group() {
        let gid = getegid().as_raw();
        let (_folder, file) = env_file(Some(&gid.to_string()));
        write(&file, "abc-123").unwrap();
        assert_eq!((mode(&file.path), fs::metadata(&file.path).unwrap().gid()), (0o640, gid));
    }

    #[test]
    fn unknown_group_is_an_error_and_leaves_the_file_unchanged() {
        let (_folder, file) = env_file(Some("no-such-group-here"));
        fs::write(&file.path, "QUOTES_TOKEN=\"old\"\n").unwrap();
        let error = write(&file, "abc-123").unwrap_err().to_string();
        assert!(error.contains("there is no such group; create it"), "{error}");
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "QUOTES_TOKEN=\"old\"\n");
    }

    #[test]
    fn equal_file_is_not_written_again_unless_its_mode_differs() {
        let (_folder, file) = env_file(None);
        write(&file, "abc-123").unwrap();
        let inode = || fs::metadata(&file.path).unwrap().ino();
        let first = inode();
        write(&file, "abc-123").unwrap();
        assert_eq!(inode(), first);
        fs::set_permissions(&file.path, Permissions::from_mode(0o644)).unwrap();
        write(&file, "abc-123").unwrap();
        assert_eq!(mode(&file.path), 0o600);
    }

    #[test]
    fn other_content_than_an_assignment_is_never_replaced() {
        for content in [
            "abc-123\n",
            "A=1\nB=2\n",
            "A=\"1\"\nB=\"2\"\n",
            "[server.s]\nurl = \"x\"\n",
            "\u{0}=\"\"",
        ] {
            let (_folder, file) = env_file(None);
            fs::write(&file.path, content).unwrap();
            let error = write(&file, "new").unwrap_err();
            assert!(matches!(error, PersistError::NotAnEnvFile { .. }), "{content}: {error}");
            assert_eq!(fs::read_to_string(&file.path).unwrap(), content);
        }
    }

    #[test]
    fn empty_file_and_other_assignments_are_replaced() {
        for content in ["", "QUOTES_TOKEN=old\n", "QUOTES_TOKEN=", "OTHER=\"old\"\n"] {
            let (_folder, file) = env_file(None);
            fs::write(&file.path, content).unwrap();
            write(&file, "new").unwrap();
            assert_eq!(fs::read_to_string(&file.path).unwrap(), "QUOTES_TOKEN=\"new\"\n");
        }
    }

    #[test]
    fn write_reports_whether_the_file_had_another_value() {
        for (content, had_other_value) in [
            ("", false),
            ("QUOTES_TOKEN=\n", false),
            ("QUOTES_TOKEN=\"\"\n", false),
            ("QUOTES_TOKEN=new\n", false),
            ("OTHER=\"new\"\n", false),
            ("QUOTES_TOKEN=\"new\"\n", false),
            ("QUOTES_TOKEN=\"old\"\n", true),
            ("OTHER=\"old\"\n", true),
        ] {
            let (_folder, file) = env_file(None);
            assert!(!write(&file, "new").unwrap().had_other_value, "there is no file");
            fs::write(&file.path, content).unwrap();
            assert_eq!(write(&file, "new").unwrap().had_other_value, had_other_value, "{content}");
        }
    }

    #[test]
    fn known_group_is_not_looked_up_again() {
        let (_folder, file) = env_file(Some("no-such-group-here"));
        let gid = getegid().as_raw();
        let exported = write_env_file(&file, Some(gid), &value("abc-123")).unwrap();
        assert_eq!(exported.gid, Some(gid));
        assert_eq!(fs::metadata(&file.path).unwrap().gid(), gid);
    }

    #[test]
    fn fifo_or_link_that_takes_the_place_of_the_file_is_neither_waited_for_nor_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [fifo, link] = ["fifo", "link"].map(|name| folder.path().join(name));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = read_existing(&fifo, "A").unwrap_err();
        assert!(matches!(error, PersistError::NotAFile { .. }), "{error}");
        fs::write(folder.path().join("target"), "A=\"1\"\n").unwrap();
        symlink("target", &link).unwrap();
        let error = read_existing(&link, "A").unwrap_err();
        assert!(matches!(error, PersistError::Failed { .. }), "{error}");
    }

    #[test]
    fn root_follows_no_link_in_a_folder_of_another_user() {
        let (folder, file) = env_file(None);
        symlink("target", &file.path).unwrap();
        write(&file, "first").unwrap();
        let target = || fs::read_to_string(folder.path().join("target")).unwrap();
        assert_eq!(target(), "QUOTES_TOKEN=\"first\"\n");
        if chown(folder.path(), Some(12_345), None).is_err() {
            return; // only root may set this up
        }
        let error = write(&file, "second").unwrap_err().to_string();
        assert!(error.contains("root follows no link in a folder of another user"), "{error}");
        assert!(check_env_file(&file).is_err());
        assert_eq!(target(), "QUOTES_TOKEN=\"first\"\n");
    }

    #[test]
    fn no_error_contains_the_value() {
        let (folder, mut file) = env_file(None);
        let missing: PathBuf = folder.path().join("missing/token.env");
        for path in [folder.path().to_owned(), missing] {
            file.path = path;
            let error = write(&file, "abc-123").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("abc-123"));
        }
    }
}
