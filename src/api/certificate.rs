//! Reads the validity of an X.509 certificate (RFC 5280, 4.1).
//!
//! Verifies nothing: the TLS library does, but it does not expose the dates of a client's own
//! certificate.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Validity of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The tag of the optional version.
const VERSION: u8 = 0xa0;

impl Validity {
    /// The validity of a certificate in DER form.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut fields, _) = element(certificate, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            fields = any_element(fields)?.2;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            fields = any_element(fields)?.2;
        }
        let (validity, _) = element(fields, SEQUENCE)?;
        let (tag, not_before, rest) = any_element(validity)?;
        let not_before = time(tag, not_before)?;
        let (tag, not_after, _) = any_element(rest)?;
        Some(Self { not_before, not_after: time(tag, not_after)? })
    }
}

/// The content of an element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(der)?;
    (found == tag).then_some((content, rest))
}

/// An element's tag and content, and what follows it.
fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |value, digit| value << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(tag: u8, content: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(content).ok()?;
    let text = match tag {
        // Two digits stand for the years from 1950 to 2049.
        UTC_TIME if text >= "5" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(years: (i32, i32)) -> Vec<u8> {
        let mut params = CertificateParams::new(["client".to_owned()]).expect("parameters");
        params.not_before = date_time_ymd(years.0, 1, 2);
        params.not_after = date_time_ymd(years.1, 3, 4);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn validity_is_read_in_both_forms_of_time() {
        for years in [(1975, 1999), (2020, 2049), (2001, 2050), (2050, 4096)] {
            let validity = Validity::of(&certificate(years)).expect("a validity");
            let shown = (validity.not_before.to_string(), validity.not_after.to_string());
            let (from, to) = years;
            let expected = (format!("{from}-01-02T00:00:00Z"), format!("{to}-03-04T00:00:00Z"));
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_validity() {
        let certificate = certificate((2020, 2030));
        for end in 0..certificate.len().min(200) {
            assert_eq!(Validity::of(&certificate[..end]), None);
        }
        for der in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", b"PEM"] {
            assert_eq!(Validity::of(der), None);
        }
    }
}
