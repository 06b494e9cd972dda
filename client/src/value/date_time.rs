use std::{fmt, str::FromStr};

use super::{ValueError, error::Why};

/// A date and time as text, in the form that Python's `datetime.isoformat()` writes: ISO 8601 with whole seconds, or
/// up to six digits of their fraction, and an offset from UTC or none.
///
/// `2026-05-01T12:00:00`, `2026-05-01T12:00:00.250000+02:00`, `2026-05-01T10:00:00Z`. Years run from 0001 to 9999, seconds
/// to 59; an offset may have seconds, as those before standard time did (`+00:53:28`). More digits than microseconds are
/// refused: Python would drop them.
///
/// Two are equal if their texts are. This crate does not reckon with time: whatever library does, writes and reads this.
///
/// ```
/// use sessiond_client::value::DateTime;
///
/// let noon: DateTime = "2026-05-01T12:00:00+02:00".parse()?;
/// assert!(noon.has_offset());
/// assert!("2026-02-30T12:00:00".parse::<DateTime>().is_err());
/// # Ok::<(), sessiond_client::ValueError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DateTime(Box<str>);

impl DateTime {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it tells its offset from UTC ("aware", in Python's words), or leaves open which clock showed it ("naive").
    pub fn has_offset(&self) -> bool {
        self.0.ends_with('Z') || self.0[DATE.len()..].contains(['+', '-'])
    }
}

const DATE: &str = "YYYY-MM-DD";

impl FromStr for DateTime {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match Reader(text.as_bytes()).date_time() {
            Some(()) => Ok(Self(text.into())),
            None => Err(Why::NoDateTime.into()),
        }
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is left to read. Every step is `None` where the text is not of the form.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn date_time(mut self) -> Option<()> {
        let year = self.number(4)?;
        self.sign(b'-')?;
        let month = self.number(2)?;
        self.sign(b'-')?;
        let day = self.number(2)?;
        let exists = year >= 1 && (1..=days(year, month)).contains(&day);
        exists.then_some(())?;
        self.sign(b'T')?;
        self.hours_and_minutes()?;
        self.sign(b':')?;
        self.seconds()?;
        match self.0 {
            [] | b"Z" => Some(()),
            [b'+' | b'-', offset @ ..] => Self(offset).offset(),
            _ => None,
        }
    }

    fn offset(mut self) -> Option<()> {
        self.hours_and_minutes()?;
        if self.sign(b':').is_some() {
            self.seconds()?;
        }
        self.0.is_empty().then_some(())
    }

    fn hours_and_minutes(&mut self) -> Option<()> {
        let hours = self.number(2)?;
        self.sign(b':')?;
        let minutes = self.number(2)?;
        (hours < 24 && minutes < 60).then_some(())
    }

    fn seconds(&mut self) -> Option<()> {
        let seconds = self.number(2)?;
        if self.sign(b'.').is_some() {
            let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=6).contains(&digits).then_some(())?;
            self.0 = &self.0[digits..];
        }
        (seconds < 60).then_some(())
    }

    fn number(&mut self, digits: usize) -> Option<u32> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
    }

    fn sign(&mut self, sign: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[sign])?;
        Some(())
    }
}

/// How many days the month has; none if there is no such month.
fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        for (text, aware) in [
            ("2026-05-01T12:00:00", false),
            ("2026-05-01T12:00:00.000001", false),
            ("2026-05-01T12:00:00+00:00", true),
            ("2026-05-01T12:00:00.250000-09:30", true),
            ("1890-01-01T00:00:00+00:53:28", true),
            ("1890-01-01T00:00:00+00:53:28.500000", true),
            ("2026-05-01T12:00:00.5Z", true),
            ("0001-01-01T00:00:00", false),
            ("9999-12-31T23:59:59.999999", false),
            ("2024-02-29T00:00:00", false),
            ("2000-02-29T00:00:00", false),
        ] {
            let read: DateTime = text.parse().expect(text);
            assert_eq!((read.as_str(), read.has_offset()), (text, aware));
        }
    }

    #[test]
    fn what_no_calendar_or_clock_shows_is_refused() {
        for text in [
            "",
            "2026-05-01",
            "2026-05-01T12:00",
            "2026-05-01 12:00:00",
            "2026-05-01t12:00:00z",
            "0000-01-01T00:00:00",
            "2026-00-01T00:00:00",
            "2026-13-01T00:00:00",
            "2026-04-31T00:00:00",
            "2026-02-29T00:00:00",
            "1900-02-29T00:00:00",
            "2026-05-00T00:00:00",
            "2026-05-01T24:00:00",
            "2026-05-01T12:60:00",
            "2026-05-01T12:00:60",
            "2026-05-01T12:00:00.",
            "2026-05-01T12:00:00.1234567",
            "2026-05-01T12:00:00Zz",
            "2026-05-01T12:00:00+0200",
            "2026-05-01T12:00:00+02",
            "2026-05-01T12:00:00+24:00",
            "2026-05-01T12:00:00+02:00Z",
            "2026-05-01T12:00:00 +02:00",
            "+2026-05-01T12:00:00",
            "2026-05-01T12:00:0٣",
            "Fri, 01 May 2026 12:00:00 GMT",
        ] {
            assert!(text.parse::<DateTime>().is_err(), "{text}");
        }
    }
}
