use std::fmt;

use serde::{
    de::{self, Expected, Unexpected},
    ser,
};

/// Why a value cannot be kept, or is not what it is read as.
///
/// It says where (`cart[3].price: expected u32, found a string`) and never what the value is: a session may hold what is
/// personal, and errors end up in logs. That goes for `Debug` too. Keys are shown; they should tell nothing personal.
#[derive(thiserror::Error)]
#[error("{}{why}", prefix(path))]
pub struct ValueError {
    path: String,
    why: Why,
}

#[derive(thiserror::Error)]
pub(super) enum Why {
    #[error("an integer beyond 2^53, where doubles round: keep it as text, or as sessiond_client::value::Integer")]
    TooBig,
    #[error("nests deeper than {0} levels")]
    TooDeep(usize),
    #[error("a map key must be a string, a char, an integer or a bool: use one of these, or a list of pairs")]
    NoKey,
    #[error("not an integer in its one spelling: -?[1-9][0-9]* or 0, of at most 4300 digits")]
    NoInteger,
    #[error(
        "not a date and time as in 2026-05-01T12:00:00.250000+02:00: fraction (to microseconds) and offset may lack"
    )]
    NoDateTime,
    #[error("expected {0}, found an integer beyond its range")]
    OutOfRange(&'static str),
    #[error("expected a float, found an integer that a double would round")]
    NotExact,
    #[error("expected {expected}, found {found}")]
    WrongKind { expected: String, found: &'static str },
    #[error("expected {expected}, found {found} that will not do")]
    WrongContent { expected: String, found: &'static str },
    #[error("expected {expected}, found {found} of them")]
    WrongLength { expected: String, found: usize },
    #[error("lacks the field `{0}`")]
    MissingField(&'static str),
    #[error("a field that its type does not have")]
    UnknownField,
    #[error("a field that comes twice")]
    DuplicateField,
    #[error("expected one of {0:?}, found the name of another variant")]
    UnknownVariant(&'static [&'static str]),
    /// What the type itself said may quote the value.
    #[error("its type refused it (ValueError::detail has its words, which may quote the value)")]
    Refused(String),
    #[error("the session's data cannot be read: it is no google.protobuf.Struct")]
    NoStruct,
}

/// How much of a key is shown, in characters.
const KEY_SHOWN: usize = 40;
/// How much of a path, in bytes: a path is for people, and past some length it helps nobody.
const PATH_SHOWN: usize = 200;

impl ValueError {
    /// Where in the value it is, such as `cart[3].price`; empty for the value itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The words of the type's own `Serialize` or `Deserialize`, if it was that which refused. They may quote the value:
    /// look before you log them.
    pub fn detail(&self) -> Option<&str> {
        match &self.why {
            Why::Refused(detail) => Some(detail),
            _ => None,
        }
    }

    /// The error seen from one key further out.
    pub(crate) fn at_key(self, key: &str) -> Self {
        let shown: String = key.chars().take(KEY_SHOWN).collect();
        let dots = if shown.len() < key.len() { "…" } else { "" };
        let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        self.inside(if plain { shown + dots } else { format!("[{:?}]", shown + dots) })
    }

    /// The error seen from one list further out.
    pub(super) fn at_index(self, index: usize) -> Self {
        self.inside(format!("[{index}]"))
    }

    fn inside(mut self, outer: String) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        let rest = if self.path.len() > PATH_SHOWN { "…" } else { &self.path };
        self.path = format!("{outer}{dot}{rest}");
        self
    }
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

impl From<Why> for ValueError {
    fn from(why: Why) -> Self {
        Self { path: String::new(), why }
    }
}

impl fmt::Debug for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueError({:?})", self.to_string())
    }
}

impl fmt::Debug for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ser::Error for ValueError {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        Why::Refused(detail.to_string()).into()
    }
}

/// `serde` would quote the value in most of these.
impl de::Error for ValueError {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        Why::Refused(detail.to_string()).into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Why::WrongKind { expected: expected.to_string(), found: kind(found) }.into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Why::WrongContent { expected: expected.to_string(), found: kind(found) }.into()
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Why::WrongLength { expected: expected.to_string(), found }.into()
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Why::UnknownVariant(expected).into()
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::from(Why::UnknownField).at_key(field)
    }

    fn missing_field(field: &'static str) -> Self {
        Why::MissingField(field).into()
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::from(Why::DuplicateField).at_key(field)
    }
}

/// What `serde` found, without its content.
fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a bool",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a float",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        Unexpected::Enum | Unexpected::UnitVariant => "a variant",
        Unexpected::NewtypeVariant | Unexpected::TupleVariant | Unexpected::StructVariant => "a variant with content",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> ValueError {
        Why::TooBig.into()
    }

    #[test]
    fn a_path_reads_as_one_would_write_it() {
        assert_eq!(error().path(), "");
        assert_eq!(error().at_key("price").at_index(3).at_key("cart").path(), "cart[3].price");
        assert_eq!(error().at_key("a b").at_key("").at_key("list").path(), r#"list[""]["a b"]"#);
        assert!(error().at_index(0).to_string().starts_with("[0]: an integer beyond 2^53"));
    }

    #[test]
    fn a_path_stays_short() {
        let long = "k".repeat(1000);
        let deep = (0..1000).fold(error(), |error, _| error.at_key(&long));
        assert!(deep.path().len() < 500, "{}", deep.path());
    }

    #[test]
    fn a_types_own_words_are_given_only_to_who_asks() {
        let error: ValueError = de::Error::custom("secret is no e-mail address");
        assert_eq!(error.detail(), Some("secret is no e-mail address"));
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
