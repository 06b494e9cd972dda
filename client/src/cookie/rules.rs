//! Which cookies browsers will keep. Whatever else is asked for is refused when the policy is built, and not found out
//! by visitors who cannot log in.

use std::time::Duration;

use super::{CookiePolicy, SameSite};
use crate::SessionId;

/// Why there can be no such [`CookiePolicy`]. Its text is a sentence for whoever configures the application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookiePolicyError {
    /// The name is not a token (RFC 9110 5.6.2).
    #[error("a cookie cannot be named {0:?}: use ASCII letters, digits and -, _ or . only, and at least one of them")]
    Name(String),
    /// Name and id are more than 4096 octets together (6265bis).
    #[error(
        "a cookie's name of {0} characters is too long: with the id, browsers take {MAX_PAIR}, so {MAX_NAME} are left"
    )]
    NameTooLong(usize),
    /// The name begins with a prefix in other letters. Browsers would treat it as that prefix.
    #[error("the cookie's name {name:?} begins like {prefix} in other letters: spell it so, or choose another name")]
    PrefixSpelling {
        /// The name.
        name: String,
        /// The prefix as it is spelt.
        prefix: &'static str,
    },
    /// The name's prefix needs `Secure`.
    #[error(
        "{0} in a cookie's name needs Secure: serve over https, or for plain http choose a name without the prefix"
    )]
    PrefixNeedsSecure(&'static str),
    /// The name's prefix needs `Path=/`.
    #[error("{0} in a cookie's name needs the path /: leave it so, or choose a name that begins with __Secure-")]
    PrefixNeedsRootPath(&'static str),
    /// The name's prefix forbids a `Domain`.
    #[error("{0} in a cookie's name forbids a domain: leave it out, or choose a name that begins with __Secure-")]
    PrefixForbidsDomain(&'static str),
    /// `SameSite=None` needs `Secure`.
    #[error("SameSite=None needs Secure: serve over https, or choose Lax")]
    SameSiteNoneNeedsSecure,
    /// `Partitioned` needs `Secure`.
    #[error("Partitioned needs Secure: serve over https, or leave it out")]
    PartitionedNeedsSecure,
    /// The domain is no host name.
    #[error(
        "a cookie's domain cannot be {0:?}: write a host name like example.com, in ASCII, with no dot at either end and no \
         port; for an IP address leave the domain out"
    )]
    Domain(String),
    /// The path does not begin with `/`, or holds what a path cannot.
    #[error("a cookie's path cannot be {0:?}: begin with / and use visible ASCII without semicolons, %XX for the rest")]
    Path(String),
    /// The path is more than 1024 octets (6265bis).
    #[error("a cookie's path of {0} characters is too long: browsers take {MAX_ATTRIBUTE}")]
    PathTooLong(usize),
    /// `Max-Age` is under a second, over 400 days, or not in whole seconds.
    #[error(
        "a cookie's Max-Age cannot be {0:?}: whole seconds, from 1 s to 400 days, which is the most browsers grant"
    )]
    MaxAge(Duration),
}

use CookiePolicyError as Refused;

/// Octets of a name and a value together; the `=` between them is not counted (6265bis).
const MAX_PAIR: usize = 4096;

/// Octets of a name whose value is an id.
const MAX_NAME: usize = MAX_PAIR - SessionId::LEN;

/// Octets of one attribute's value (6265bis). A domain cannot come near it.
const MAX_ATTRIBUTE: usize = 1024;

/// The longest time that browsers keep a cookie (6265bis): 400 days.
const MAX_AGE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Every prefix that a browser may know (6265bis, layered-cookies). All need `Secure`. The longer comes before the one
/// that it begins with.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Secure-", "__Http-"];

/// Whether browsers will keep a cookie of this policy, and keep it as it is meant.
pub(super) fn check(policy: &CookiePolicy) -> Result<(), Refused> {
    check_name(&policy.name)?;
    check_path(&policy.path)?;
    if let Some(domain) = &policy.domain {
        check_domain(domain)?;
    }
    if let Some(span) = policy.max_age {
        check_max_age(span)?;
    }
    check_prefix(policy)?;
    if !policy.secure && policy.same_site == SameSite::None {
        return Err(Refused::SameSiteNoneNeedsSecure);
    }
    if !policy.secure && policy.partitioned {
        return Err(Refused::PartitionedNeedsSecure);
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Refused> {
    let of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(of_a_token) {
        return Err(Refused::Name(name.to_owned()));
    }
    if name.len() > MAX_NAME {
        return Err(Refused::NameTooLong(name.len()));
    }
    Ok(())
}

/// Browsers tell a prefix in any letters. We ask for the one spelling: a name that only some take for a prefix protects
/// nobody.
fn check_prefix(policy: &CookiePolicy) -> Result<(), Refused> {
    let name = &policy.name;
    let begins = |prefix: &&&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let Some(&prefix) = PREFIXES.iter().find(begins) else { return Ok(()) };
    if !name.starts_with(prefix) {
        return Err(Refused::PrefixSpelling { name: name.clone(), prefix });
    }
    if !policy.secure {
        return Err(Refused::PrefixNeedsSecure(prefix));
    }
    if prefix.starts_with("__Host-") {
        if policy.path != "/" {
            return Err(Refused::PrefixNeedsRootPath(prefix));
        }
        if policy.domain.is_some() {
            return Err(Refused::PrefixForbidsDomain(prefix));
        }
    }
    Ok(())
}

/// A space is among what is refused: URLs have none, and browsers would trim it at the end.
fn check_path(path: &str) -> Result<(), Refused> {
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if !path.starts_with('/') || !visible {
        return Err(Refused::Path(path.to_owned()));
    }
    if path.len() > MAX_ATTRIBUTE {
        return Err(Refused::PathTooLong(path.len()));
    }
    Ok(())
}

/// A host name (RFC 1123 2.1). Under an IP address there are no hosts, and browsers take one for the host itself at most.
fn check_domain(domain: &str) -> Result<(), Refused> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = domain.rsplit('.').next().unwrap_or_default();
    // As URLs tell an IPv4 address: by its last part, which may be hexadecimal (WHATWG URL, "ends in a number").
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").or(last.strip_prefix("0X")).is_some_and(hexadecimal);
    if domain.len() > 253 || !domain.split('.').all(label) || number {
        return Err(Refused::Domain(domain.to_owned()));
    }
    Ok(())
}

fn check_max_age(span: Duration) -> Result<(), Refused> {
    if span.subsec_nanos() != 0 || span.is_zero() || span > MAX_AGE {
        return Err(Refused::MaxAge(span));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::CookiePolicyBuilder;

    fn said(change: impl FnOnce(CookiePolicyBuilder) -> CookiePolicyBuilder) -> String {
        change(CookiePolicy::builder()).build().expect_err("it is refused").to_string()
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do() {
        let host = "__Host- in a cookie's name";
        assert_eq!(
            said(|cookie| cookie.secure(false)),
            format!("{host} needs Secure: serve over https, or for plain http choose a name without the prefix")
        );
        assert_eq!(
            said(|cookie| cookie.path("/app")),
            format!("{host} needs the path /: leave it so, or choose a name that begins with __Secure-")
        );
        assert_eq!(
            said(|cookie| cookie.domain("example.com")),
            format!("{host} forbids a domain: leave it out, or choose a name that begins with __Secure-")
        );
        assert_eq!(
            said(|cookie| cookie.name("__host-id")),
            "the cookie's name \"__host-id\" begins like __Host- in other letters: spell it so, or choose another name"
        );
        assert_eq!(
            said(|cookie| cookie.name("my id")),
            "a cookie cannot be named \"my id\": use ASCII letters, digits and -, _ or . only, and at least one of them"
        );
        assert_eq!(
            said(|cookie| cookie.name("n".repeat(4032))),
            "a cookie's name of 4032 characters is too long: with the id, browsers take 4096, so 4031 are left"
        );
        assert_eq!(
            said(|cookie| cookie.name("id").domain(".example.com")),
            "a cookie's domain cannot be \".example.com\": write a host name like example.com, in ASCII, with no dot at \
             either end and no port; for an IP address leave the domain out"
        );
        assert_eq!(
            said(|cookie| cookie.max_age(MAX_AGE + Duration::from_secs(1))),
            "a cookie's Max-Age cannot be 34560001s: whole seconds, from 1 s to 400 days, which is the most browsers grant"
        );
    }

    #[test]
    fn a_span_that_is_not_in_whole_seconds_is_refused() {
        let span = Duration::from_nanos(1_000_000_001);
        assert_eq!(CookiePolicy::builder().max_age(span).build(), Err(Refused::MaxAge(span)));
    }
}
