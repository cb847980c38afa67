use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

const NO_VARIABLES: Variables<'static> = &|_| None;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("quotes.token")
    }

    fn holding(content: &[u8]) -> Self {
        let folder = Self::new();
        fs::write(folder.path(), content).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o600)).unwrap();
        folder
    }

    fn read(&self) -> Result<Found, SourceError> {
        read(&Source::File(self.path()), NO_VARIABLES)
    }

    fn error(&self) -> SourceErrorKind {
        self.read().unwrap_err().kind
    }
}

#[test]
fn file_with_one_word_on_one_line_is_a_token() {
    let found = Folder::holding(b"\xef\xbb\xbf abc-123\r\n").read().unwrap();
    assert_eq!(found.value.expose(), "abc-123");
    assert_eq!(found.warnings, []);
}

#[test]
fn world_readable_file_is_read_with_a_warning() {
    for mode in [0o604, 0o602] {
        let folder = Folder::holding(b"abc-123");
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        let found = folder.read().unwrap();
        assert_eq!(found.warnings, [SourceWarning::OpenToAll { path: folder.path(), mode }]);
        assert!(found.warnings[0].to_string().contains(&format!("mode {mode:04o}")));
    }
}

#[test]
fn group_readable_file_is_read_without_a_warning() {
    let folder = Folder::holding(b"abc-123");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o640)).unwrap();
    assert_eq!(folder.read().unwrap().warnings, []);
}

#[test]
fn missing_file_error_has_path_and_remedy() {
    let folder = Folder::new();
    let error = folder.read().unwrap_err();
    assert!(matches!(error.kind, SourceErrorKind::Missing));
    let sentence = error.to_string();
    assert!(sentence.starts_with(folder.path().to_str().unwrap()), "{sentence}");
    assert!(sentence.contains("create it with the secret"), "{sentence}");
}

#[test]
fn white_space_alone_is_an_empty_file() {
    for content in ["", " \r\n\n"] {
        let error = Folder::holding(content.as_bytes()).error();
        assert!(matches!(error, SourceErrorKind::Empty), "{error}");
    }
}

#[test]
fn two_lines_are_rejected_and_not_quoted() {
    let error = Folder::holding(b"abc-123\ndef-456\n").read().unwrap_err();
    assert!(matches!(error.kind, SourceErrorKind::NotAToken(TokenValueError::NotOneWord)));
    assert!(!format!("{error} {error:?}").contains("abc"));
}

#[test]
fn bytes_that_are_not_text_are_rejected() {
    assert!(matches!(Folder::holding(b"abc\xff").error(), SourceErrorKind::NotUtf8));
}

#[test]
fn a_file_of_more_than_64_kib_is_not_read() {
    assert!(matches!(Folder::holding(&vec![b'x'; 65_537]).error(), SourceErrorKind::TooLarge));
}

#[test]
fn directory_in_place_of_a_file_is_rejected() {
    let folder = Folder::new();
    fs::create_dir(folder.path()).unwrap();
    assert!(matches!(folder.error(), SourceErrorKind::IsDirectory));
}

#[test]
fn pipe_without_a_writer_does_not_block() {
    let folder = Folder::new();
    mknodat(CWD, folder.path(), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(matches!(folder.error(), SourceErrorKind::NotRegular));
}

#[test]
fn a_socket_and_a_device_are_not_regular_files() {
    let folder = Folder::new();
    let _socket = UnixListener::bind(folder.path()).unwrap();
    assert!(matches!(folder.error(), SourceErrorKind::NotRegular));
    let zeros = read_file(Path::new("/dev/zero")).unwrap_err().kind;
    assert!(matches!(zeros, SourceErrorKind::NotRegular));
}

#[test]
fn path_through_a_file_is_unreadable_with_the_reason() {
    let folder = Folder::holding(b"abc-123");
    let error = read_file(&folder.path().join("deeper")).unwrap_err();
    assert!(matches!(error.kind, SourceErrorKind::Unreadable(_)), "{error}");
    assert!(error.to_string().contains("Not a directory"), "{error}");
}

#[test]
fn a_credential_is_a_file_in_the_credentials_directory() {
    let folder = Folder::holding(b"abc-123\n");
    let directory = |name: &str| {
        (name == "CREDENTIALS_DIRECTORY").then(|| folder.0.path().as_os_str().to_owned())
    };
    let found = read(&Source::Credential("quotes.token".into()), &directory).unwrap();
    assert_eq!(found.value.expose(), "abc-123");
}

#[test]
fn error_without_a_credentials_directory_names_the_remedy() {
    let error = read(&Source::Credential("quotes".into()), NO_VARIABLES).unwrap_err();
    assert!(matches!(error.kind, SourceErrorKind::NoCredentialsDirectory));
    assert!(error.to_string().contains("LoadCredential="), "{error}");
}

#[test]
fn credential_name_cannot_leave_its_directory() {
    for name in ["../shadow", "/etc/shadow", "..", ".", "", "a/b", "a/"] {
        let error = read(&Source::Credential(name.into()), &|_| Some("/".into())).unwrap_err();
        assert!(matches!(error.kind, SourceErrorKind::NotACredentialName), "{name}: {error}");
    }
}

#[test]
fn variable_follows_the_rules_of_files() {
    let source = Source::Env("QUOTES".into());
    let read_as = |value: &[u8]| {
        let value = OsStr::from_bytes(value).to_owned();
        read(&source, &|name| (name == "QUOTES").then(|| value.clone()))
    };
    assert_eq!(read_as(b"abc-123 ").unwrap().value.expose(), "abc-123");
    assert!(matches!(read_as(b"").unwrap_err().kind, SourceErrorKind::Empty));
    assert!(matches!(read_as(b"\xff").unwrap_err().kind, SourceErrorKind::NotUtf8));
    assert!(matches!(read_as(b"a b").unwrap_err().kind, SourceErrorKind::NotAToken(_)));
    assert_eq!(&*read_as(b"").unwrap_err().location, "$QUOTES");
}

#[test]
fn api_key_is_read_like_a_token() {
    let folder = Folder::holding(b"key-1\n");
    let key = read_key(&KeySource::File(folder.path()), NO_VARIABLES).unwrap();
    assert_eq!(key.value.expose_secret(), "key-1");
    let error = read_key(&KeySource::Credential("key".into()), NO_VARIABLES).unwrap_err();
    assert!(matches!(error.kind, SourceErrorKind::NoCredentialsDirectory));
}

#[test]
fn probable_mistake_is_read_with_a_warning_that_does_not_quote_it() {
    for (content, expected) in [
        ("null\n", Mistake::Word("null")),
        ("{\"a\":\"abc-123\"}", Mistake::JsonObject),
        ("\"abc-123\"", Mistake::Quoted),
        ("KEY=abc-123", Mistake::Assignment),
        ("abc\u{200b}-123", Mistake::Invisible),
    ] {
        let folder = Folder::holding(content.as_bytes());
        let location: Box<str> = folder.path().display().to_string().into();
        let found = folder.read().unwrap();
        assert_eq!(found.warnings, [SourceWarning::Mistaken { location, mistake: expected }]);
        assert!(!found.warnings[0].to_string().contains("123"), "{}", found.warnings[0]);
    }
    let found = read(&Source::Env("QUOTES".into()), &|_| Some("KEY=abc-123".into())).unwrap();
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].to_string().starts_with("$QUOTES: "), "{}", found.warnings[0]);
}

#[test]
fn multi_word_json_is_rejected_and_named() {
    for content in ["{\n \"a\": \"abc\"\n}\n", "{\"a\": \"abc\"}", "[ \"abc\" ]"] {
        let kind = Folder::holding(content.as_bytes()).error();
        assert!(matches!(kind, SourceErrorKind::Mistaken(_)), "{content}: {kind}");
        assert!(kind.to_string().contains("JSON"), "{kind}");
    }
}

#[test]
fn parameter_is_one_line_that_may_contain_spaces() {
    for (content, expected) in
        [("pass word\n", "pass word"), (" a\r\n", " a"), ("\u{e4}", "\u{e4}"), ("\u{feff}x", "x")]
    {
        let folder = Folder::holding(content.as_bytes());
        let found = read_parameter(&Parameter::File(folder.path()), NO_VARIABLES).unwrap();
        assert_eq!(found.value.expose_secret(), expected);
    }
    for content in ["a\nb\n", "a\tb", "a\n\n", "\u{1b}"] {
        let folder = Folder::holding(content.as_bytes());
        let error = read_parameter(&Parameter::File(folder.path()), NO_VARIABLES).unwrap_err();
        assert!(matches!(error.kind, SourceErrorKind::NotOneLine), "{content:?}: {error}");
    }
    for content in ["", "\n", " \n"] {
        let folder = Folder::holding(content.as_bytes());
        let error = read_parameter(&Parameter::File(folder.path()), NO_VARIABLES).unwrap_err();
        assert!(matches!(error.kind, SourceErrorKind::Empty), "{content:?}: {error}");
    }
}

#[test]
fn parameter_comes_from_text_variable_or_credential() {
    let folder = Folder::holding(b"from a file\n");
    let variables = |name: &str| match name {
        "CREDENTIALS_DIRECTORY" => folder.path().parent().map(Into::into),
        "SECRET" => Some("from a variable".into()),
        _ => None,
    };
    let file_name = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
    for (parameter, expected) in [
        (Parameter::Text("as it is".to_owned()), "as it is"),
        (Parameter::Env("SECRET".to_owned()), "from a variable"),
        (Parameter::Credential(file_name), "from a file"),
    ] {
        let found = read_parameter(&parameter, &variables).unwrap();
        assert_eq!(found.value.expose_secret(), expected);
    }
    let unset = read_parameter(&Parameter::Env("OTHER".to_owned()), &variables).unwrap_err();
    assert!(matches!(unset.kind, SourceErrorKind::VariableUnset), "{unset}");
}
