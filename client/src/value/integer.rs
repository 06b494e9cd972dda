use std::{fmt, str::FromStr};

use super::{ValueError, as_number, error::Why};

/// An integer of any size, in decimal digits: what a double would round and Python holds.
///
/// There is one spelling for each: an optional `-`, digits without leading zeros, no `-0`. At most
/// [`MAX_DIGITS`](Self::MAX_DIGITS) of them.
///
/// ```
/// use sessiond_client::value::{Integer, Value};
///
/// let id = Integer::from(u64::MAX);
/// assert_eq!(id.to_string(), "18446744073709551615");
/// assert_eq!(Value::of(&id)?.to::<u64>()?, u64::MAX);
/// # Ok::<(), sessiond_client::ValueError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Integer(Box<str>);

impl Integer {
    /// How many digits it may have: Python reads no more than these without being asked
    /// (`sys.int_info.default_max_str_digits`).
    pub const MAX_DIGITS: usize = 4300;

    /// The digits, with a `-` before them if it is negative.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The integer as a double that is sure to hold it: at most 2^53 either way.
    pub(super) fn as_number(&self) -> Option<f64> {
        self.0.parse().ok().and_then(as_number)
    }

    /// The integer as the double that is exactly it, if there is one.
    pub(super) fn as_exact(&self) -> Option<f64> {
        let nearest: f64 = self.0.parse().ok()?;
        (nearest.is_finite() && format!("{nearest:.0}") == *self.0).then_some(nearest)
    }
}

/// Reads the one spelling.
impl FromStr for Integer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let spelt = match digits.as_bytes() {
            b"0" => digits.len() == text.len(),
            [b'1'..=b'9', rest @ ..] => rest.len() < Self::MAX_DIGITS && rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        if spelt { Ok(Self(text.into())) } else { Err(Why::NoInteger.into()) }
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! primitive {
    ($($type:ty),*) => {$(
        impl From<$type> for Integer {
            fn from(integer: $type) -> Self {
                Self(integer.to_string().into())
            }
        }

        /// Fails if it does not fit.
        impl TryFrom<&Integer> for $type {
            type Error = ValueError;

            fn try_from(integer: &Integer) -> Result<Self, ValueError> {
                integer.0.parse().map_err(|_| Why::OutOfRange(stringify!($type)).into())
            }
        }
    )*};
}

primitive!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_read_and_no_other() {
        let longest = "9".repeat(Integer::MAX_DIGITS);
        for spelt in ["0", "7", "-7", "10", "-18446744073709551616", &longest, &format!("-{longest}")] {
            assert_eq!(spelt.parse::<Integer>().expect("it is spelt so").as_str(), spelt);
        }
        for wrong in
            ["", "-", "-0", "00", "007", "+5", " 5", "5 ", "1e3", "5.0", "1_000", "--5", "٣", &format!("{longest}9")]
        {
            assert!(wrong.parse::<Integer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn primitive_integers_come_and_go() {
        assert_eq!(i128::try_from(&Integer::from(i128::MIN)).unwrap(), i128::MIN);
        assert_eq!(u128::try_from(&Integer::from(u128::MAX)).unwrap(), u128::MAX);
        let error = u64::try_from(&Integer::from(-1)).expect_err("it is negative");
        assert_eq!(error.to_string(), "expected u64, found an integer beyond its range");
    }

    #[test]
    fn a_double_that_would_round_is_none() {
        let exact = |text: &str| text.parse::<Integer>().unwrap().as_exact();
        assert_eq!(exact("-9007199254740992"), Some(-9_007_199_254_740_992.0));
        assert_eq!(exact("9007199254740993"), None);
        assert_eq!(exact("18446744073709551616"), Some(18_446_744_073_709_551_616.0));
        assert_eq!(exact(&"9".repeat(400)), None);
    }
}
