use std::fs;
use std::io::{self, Write as _};

use super::*;

const QUOTES: &str = r#"{"name":"quotes","token":"abc-1"}"#;
const ORDERS: &str = r#"{"name":"orders","token":"abc-2"}"#;

/// What is handed over of `text`, as `LINE NAME VALUE`, and what is told of the rest.
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
fn every_good_line_is_handed_over_with_its_number() {
    let (good, bad) = read(format!("{QUOTES}\n{ORDERS}\n").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "2 orders abc-2"]);
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn a_byte_order_mark_blank_lines_and_carriage_returns_are_passed_by() {
    let (good, bad) = read(format!("\u{feff}{QUOTES}\r\n\r\n  \n{ORDERS}").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "4 orders abc-2"]);
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn a_bad_line_is_told_by_its_number_and_the_rest_is_used() {
    let (good, bad) = read(format!("{QUOTES}\nnonsense\n{ORDERS}\n").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "3 orders abc-2"]);
    assert_eq!(
        bad,
        ["line 2: it is no JSON object; write {\"name\": \"...\", \"token\": \"...\"}"]
    );
}

#[test]
fn a_name_counts_where_it_stands_first() {
    let again = r#"{"name":"quotes","token":"abc-3"}"#;
    let (good, bad) = read(format!("{QUOTES}\n{ORDERS}\n{again}\n").as_bytes());
    assert_eq!(good, ["1 quotes abc-1", "2 orders abc-2"]);
    assert_eq!(bad, ["line 3: its name stands on line 1 already"]);
}

#[test]
fn a_line_that_was_cut_off_is_bad() {
    let (good, bad) = read(&format!("{QUOTES}\n{ORDERS}").as_bytes()[..QUOTES.len() + 20]);
    assert_eq!(good, ["1 quotes abc-1"]);
    assert!(bad[0].starts_with("line 2: it is not JSON"), "{bad:?}");
}

#[test]
fn of_many_bad_lines_the_first_are_told_and_the_others_counted() {
    let text = "x\n".repeat(super::super::MAX_DETAILED + 5);
    let reading = read_lines(text.as_bytes(), "tokens.jsonl", false, &mut |_| unreachable!());
    let bad = reading.unwrap().bad;
    assert_eq!((bad.first.len(), bad.count, bad.further()), (20, 25, 5));
}

#[test]
fn a_strict_inventory_is_refused_whole_for_one_bad_line() {
    let text = format!("{QUOTES}\nnonsense\n{ORDERS}\n");
    let fault = read_lines(text.as_bytes(), "tokens.jsonl", true, &mut |_| unreachable!());
    let fault = fault.unwrap_err();
    assert!(fault.to_string().starts_with("tokens.jsonl: it is refused whole"), "{fault}");
    assert_eq!(fault.bad().map(|bad| bad.count), Some(1));
}

#[test]
fn a_strict_inventory_that_is_good_is_handed_over() {
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
fn reading_stops_when_nobody_wants_it() {
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
fn what_breaks_off_is_a_fault_after_what_came_before() {
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

/// A file with these lines, and what `during` does to its path when the first was read.
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
fn a_file_that_is_replaced_while_it_is_read_is_read_to_its_end() {
    let (good, reading) = while_reading(|path| {
        let new = path.with_extension("new");
        fs::write(&new, "other").unwrap();
        fs::rename(new, path).unwrap();
    });
    assert_eq!(good, ["1 quotes abc-1", "2 orders abc-2"]);
    assert!(!reading.changed);
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_known_to_be() {
    let (_, reading) = while_reading(|path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    });
    assert!(reading.changed);
}

#[test]
fn a_file_that_is_none_is_a_fault_with_its_remedy() {
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
    assert!(fault("").to_string().contains("write `dir`"));
}

#[test]
fn a_file_that_is_open_to_all_is_warned_of() {
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
