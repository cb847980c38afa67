use std::fs;
use std::io::{self, Write as _};

use super::*;

const QUOTES: &str = r#"{"name":"quotes","token":"abc-1"}"#;
const ORDERS: &str = r#"{"name":"orders","token":"abc-2"}"#;

/// The entries of `text` as `LINE NAME VALUE`, and the errors.
fn read(text: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut good = Vec::new();
    let reading = read_lines(text, "tokens.jsonl", false, &mut |listed| {
        good.push(said(listed));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(reading.good, good.len() as u64);
    (good, reading.bad.first.iter().map(ToString::to_string).collect())
}

fn said(listed: InventoryEntry<'_>) -> String {
    format!("{} {} {}", listed.line, listed.name, listed.value.unwrap().expose())
}

#[test]
fn every_valid_line_is_passed_on_with_its_number() {
    let (good, bad) = read(format!("{QUOTES}\n{ORDERS}\n").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "2 orders abc-2"]);
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn byte_order_mark_blank_lines_and_carriage_returns_are_ignored() {
    let (good, bad) = read(format!("\u{feff}{QUOTES}\r\n\r\n  \n{ORDERS}").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "4 orders abc-2"]);
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn invalid_line_is_reported_by_its_number_and_the_rest_is_used() {
    let (good, bad) = read(format!("{QUOTES}\nnonsense\n{ORDERS}\n").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "3 orders abc-2"]);
    assert_eq!(
        bad,
        ["line 2: it is not a JSON object; write {\"name\": \"...\", \"token\": \"...\"}"]
    );
}

#[test]
fn first_line_with_a_name_counts() {
    let again = r#"{"name":"quotes","token":"abc-3"}"#;
    let (good, bad) = read(format!("{QUOTES}\n{ORDERS}\n{again}\n").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "2 orders abc-2"]);
    assert_eq!(bad, ["line 3: its name is already used on line 1"]);
}

#[test]
fn truncated_line_is_invalid() {
    let (good, bad) = read(&format!("{QUOTES}\n{ORDERS}").as_bytes()[..QUOTES.len() + 20]);
    assert_eq!(good, ["1 quotes abc-1"]);
    assert!(bad[0].starts_with("line 2: it is not JSON"), "{bad:?}");
}

#[test]
fn first_invalid_lines_are_listed_and_the_others_counted() {
    let text = "x\n".repeat(super::super::MAX_DETAILED + 5);
    let reading = read_lines(text.as_bytes(), "tokens.jsonl", false, &mut |_| unreachable!());
    let bad = reading.unwrap().bad;
    assert_eq!((bad.first.len(), bad.count, bad.further()), (20, 25, 5));
}

#[test]
fn strict_inventory_is_rejected_for_one_invalid_line() {
    let text = format!("{QUOTES}\nnonsense\n{ORDERS}\n");
    let fault = read_lines(text.as_bytes(), "tokens.jsonl", true, &mut |_| unreachable!());
    let fault = fault.unwrap_err();
    assert!(
        fault.to_string().starts_with("tokens.jsonl: the whole inventory is refused"),
        "{fault}"
    );
    assert_eq!(fault.bad().map(|bad| bad.count), Some(1));
}

#[test]
fn valid_strict_inventory_is_passed_on() {
    let mut good = Vec::new();
    let text = format!("{QUOTES}\n{ORDERS}\n");
    read_lines(text.as_bytes(), "tokens.jsonl", true, &mut |listed| {
        good.push(said(listed));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(good, ["1 quotes abc-1", "2 orders abc-2"]);
}

#[test]
fn read_stops_when_the_sink_cancels() {
    let text = format!("{QUOTES}\n{ORDERS}\n");
    let mut taken = 0;
    let fault = read_lines(text.as_bytes(), "tokens.jsonl", false, &mut |_| {
        taken += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(fault, Err(InventoryError::Cancelled)));
    assert_eq!(taken, 1);
}

#[test]
fn read_error_is_reported_after_the_entries_before_it() {
    struct Breaks<'a>(&'a [u8]);
    impl Read for Breaks<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer) {
                Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
                read => read,
            }
        }
    }
    let (text, mut taken) = (format!("{QUOTES}\n"), 0);
    let fault = read_lines(Breaks(text.as_bytes()), "tokens.jsonl", false, &mut |_| {
        taken += 1;
        ControlFlow::Continue(())
    });
    assert!(matches!(fault, Err(InventoryError::Unreadable { .. })));
    assert_eq!(taken, 1);
}

/// Reads a file with these lines; `during` modifies it after the first entry.
fn while_reading(during: impl Fn(&Path)) -> (Vec<String>, ReadSummary) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.jsonl");
    fs::write(&path, format!("{QUOTES}\n{ORDERS}\n")).unwrap();
    let mut good = Vec::new();
    let reading = read_file(&path, false, DuplicatePolicy::Reject, &mut |listed| {
        if good.is_empty() {
            during(&path);
        }
        good.push(said(listed));
        ControlFlow::Continue(())
    });
    (good, reading.unwrap())
}

#[test]
fn file_replaced_during_the_read_is_read_to_its_end() {
    let (good, reading) = while_reading(|path| {
        let new = path.with_extension("new");
        fs::write(&new, "other").unwrap();
        fs::rename(new, path).unwrap();
    });
    assert_eq!(good, ["1 quotes abc-1", "2 orders abc-2"]);
    assert!(!reading.changed);
}

#[test]
fn file_written_to_during_the_read_is_detected() {
    let (_, reading) = while_reading(|path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    });
    assert!(reading.changed);
}

#[test]
fn path_that_is_no_file_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let fault = |name: &str| {
        read_file(
            &folder.path().join(name),
            false,
            DuplicatePolicy::Reject,
            &mut |_| unreachable!(),
        )
        .unwrap_err()
    };
    assert!(matches!(fault("missing"), InventoryError::Missing(_)));
    assert!(fault("").to_string().contains("use `dir`"));
}

#[test]
fn world_readable_file_causes_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    for (mode, warnings) in [(0o600, 0), (0o644, 1)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let reading =
            read_file(file.path(), false, DuplicatePolicy::Reject, &mut |_| unreachable!())
                .unwrap();
        assert_eq!(reading.warnings.len(), warnings, "{mode:o}");
    }
}
