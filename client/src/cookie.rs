//! The session's cookie without a framework: [`http`] types in, `http` types out.
//!
//! A [`CookiePolicy`] says once how the cookie is called and where browsers send it. From it come what the application
//! answers ([`CookiePolicy::set`], [`CookiePolicy::remove`]) and what it makes of a request ([`CookiePolicy::read`]).
//!
//! ```
//! use http::{HeaderMap, header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY}};
//! use sessiond_client::{CookiePolicy, SessionId, cookie::CookieRead};
//!
//! let policy = CookiePolicy::default();
//! # let id = SessionId::parse("0123456789abcdef0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
//! let mut answer = HeaderMap::new();
//! answer.append(VARY, "Cookie".parse()?);               // whenever the session was looked at
//! answer.append(SET_COOKIE, policy.set(&id));
//! answer.insert(CACHE_CONTROL, "no-store".parse()?);    // whenever the cookie is set or removed
//!
//! let mut request = HeaderMap::new();
//! request.append(COOKIE, format!("theme=dark; {}={}", policy.name(), id.expose()).parse()?);
//! assert_eq!(policy.read(&request), CookieRead::Id(id));
//! # Ok::<(), http::header::InvalidHeaderValue>(())
//! ```
//!
//! Remove the cookie only in the answer to a request that destroyed its session. An `Open` that finds nothing is no
//! reason: a parallel request may have just logged in, and its new cookie is what the removal would hit. A service that
//! cannot be reached is none either.
//!
//! The rules are those of RFC 6265bis (draft-ietf-httpbis-rfc6265bis), of CHIPS for `Partitioned`, and of
//! draft-ietf-httpbis-layered-cookies for two of the name prefixes. `tests/vectors/cookies.json` in the repository holds
//! every language's client to them.

mod read;
mod rules;

use std::time::Duration;

use ::cookie::{
    Cookie,
    time::{self, OffsetDateTime},
};
use http::HeaderValue;

use crate::SessionId;

pub use read::CookieRead;
pub use rules::CookiePolicyError;

/// How the session's cookie is called, and where and how long browsers send it.
///
/// The default is the safe one: `__Host-id`, with `Secure`, `HttpOnly`, `SameSite=Lax` and `Path=/`; no `Domain`, so that
/// no other host sees it, and no `Max-Age`, so that it goes with the browser's session. `HttpOnly` is always there: no
/// script needs the id. Where that does not fit, there is [`builder`](Self::builder).
///
/// **A cookie that browsers already hold keeps its attributes.** They tell cookies apart by name, domain, path and
/// partition; after a change of one of these they hold the older cookie and the newer, send both, and then neither is
/// trusted ([`CookieRead::Ambiguous`]). So give the cookie a new name with such a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePolicy {
    name: String,
    domain: Option<String>,
    path: String,
    same_site: SameSite,
    secure: bool,
    partitioned: bool,
    max_age: Option<Duration>,
}

/// With which requests from other sites browsers send the cookie. It is always written out: browsers differ in what they
/// make of its absence (6265bis, "Lax-Allowing-Unsafe").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// With none: who follows a link to the application arrives without a session.
    Strict,
    /// With links that are followed, but no form, image or script of another site. The default.
    #[default]
    Lax,
    /// With all. It needs `Secure`, and a protection of the application's own against forged requests.
    None,
}

impl Default for CookiePolicy {
    fn default() -> Self {
        Self {
            name: "__Host-id".to_owned(),
            domain: None,
            path: "/".to_owned(),
            same_site: SameSite::default(),
            secure: true,
            partitioned: false,
            max_age: None,
        }
    }
}

impl CookiePolicy {
    /// A policy like the default, to be changed.
    ///
    /// ```
    /// use sessiond_client::CookiePolicy;
    ///
    /// // For plain http on the own machine: a prefix needs Secure, so the name has none.
    /// let policy = CookiePolicy::builder().name("id").secure(false).build()?;
    /// # Ok::<(), sessiond_client::cookie::CookiePolicyError>(())
    /// ```
    pub fn builder() -> CookiePolicyBuilder {
        CookiePolicyBuilder(Self::default())
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `Set-Cookie` header that gives a browser this id. It is marked as sensitive, so that whoever prints headers
    /// with `Debug` prints no id.
    ///
    /// An answer with it is to say `Cache-Control: no-store`, or a cache may hand one visitor's session to another.
    pub fn set(&self, id: &SessionId) -> HeaderValue {
        let mut cookie = self.cookie(id.expose());
        if let Some(span) = self.max_age {
            // At most 400 days: it fits.
            cookie.set_max_age(time::Duration::seconds(span.as_secs() as i64));
        }
        header(&cookie)
    }

    /// The `Set-Cookie` header that takes the cookie away: empty, and long past. It repeats every attribute of the one
    /// that was set, for otherwise a browser takes it for another cookie's, or refuses the name's prefix.
    pub fn remove(&self) -> HeaderValue {
        let mut cookie = self.cookie("");
        cookie.set_max_age(time::Duration::ZERO);
        cookie.set_expires(OffsetDateTime::UNIX_EPOCH);
        header(&cookie)
    }

    /// All that setting and removing have in common.
    fn cookie<'a>(&'a self, value: &'a str) -> Cookie<'a> {
        let mut cookie = Cookie::build((self.name.as_str(), value))
            .path(self.path.as_str())
            .same_site(match self.same_site {
                SameSite::Strict => ::cookie::SameSite::Strict,
                SameSite::Lax => ::cookie::SameSite::Lax,
                SameSite::None => ::cookie::SameSite::None,
            })
            .secure(self.secure)
            .http_only(true)
            .partitioned(self.partitioned)
            .build();
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.as_str());
        }
        cookie
    }
}

fn header(cookie: &Cookie<'_>) -> HeaderValue {
    let mut header = HeaderValue::try_from(cookie.to_string()).expect("build() let through visible ASCII only");
    header.set_sensitive(true);
    header
}

/// Settings for a [`CookiePolicy`] that is not the default one. Nothing is checked before [`build`](Self::build), so the
/// order does not matter.
#[derive(Clone, Debug)]
#[must_use = "a builder builds nothing until build() is called"]
pub struct CookiePolicyBuilder(CookiePolicy);

impl CookiePolicyBuilder {
    /// The name: a token (RFC 9110: ASCII letters, digits and a few signs) of at most 4031 characters, which with the id
    /// make the 4096 that browsers take. Keep it plain: a name that tells the software behind it helps who looks for its
    /// weaknesses. Default: `__Host-id`.
    ///
    /// A prefix makes browsers refuse the cookie unless it has certain attributes; [`build`](Self::build) refuses it then,
    /// too. Without one, any host of the same domain, and anyone on the way to a plain `http://` address of it, can put a
    /// cookie of that name before yours.
    ///
    /// | prefix | needs | enforced by |
    /// |---|---|---|
    /// | `__Host-` | `Secure`, `Path=/`, no `Domain` | all current browsers |
    /// | `__Secure-` | `Secure` | all current browsers |
    /// | `__Host-Http-` | as `__Host-`, and `HttpOnly` | not all browsers yet; the others see `__Host-` |
    /// | `__Http-` | `Secure`, `HttpOnly` | not all browsers yet; for the others it is no prefix |
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// A domain: the cookie then goes to this host and all under it, each of which can read and overwrite it. An ASCII
    /// host name (`xn--…` for others) that the application is reached by or that is above it, and no public suffix such as
    /// `co.uk`: browsers ignore the cookie otherwise. Default: none, only the host itself.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.0.domain = Some(domain.into());
        self
    }

    /// Where in the application browsers send the cookie: this path and all under it. It begins with `/` and has at most
    /// 1024 visible ASCII characters without `;`. It protects nothing: pages under other paths of the host can still get
    /// at the cookie. Default: `/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.path = path.into();
        self
    }

    /// With which requests from other sites browsers send the cookie. Default: [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.0.same_site = same_site;
        self
    }

    /// Whether browsers send the cookie over https alone. `false` is for development over plain http, and needs a name
    /// without a prefix. Default: `true`.
    pub fn secure(mut self, secure: bool) -> Self {
        self.0.secure = secure;
        self
    }

    /// Whether a page that embeds the application has a cookie of its own there for each site that embeds it (CHIPS). It
    /// needs `Secure`; to be sent at all from within another site it needs [`SameSite::None`], too, and `__Host-` is
    /// advised. Browsers keep some 10 KiB for each partition. Default: `false`.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.0.partitioned = partitioned;
        self
    }

    /// How long a browser keeps the cookie from each [`set`](CookiePolicy::set) on: whole seconds, from 1 s to 400 days.
    /// Default: `None`, until its session ends.
    ///
    /// When the session ends is the service's to say. This is worth setting to let a visitor stay logged in when the
    /// browser was closed, and no longer than the session's own lifetime.
    pub fn max_age(mut self, max_age: impl Into<Option<Duration>>) -> Self {
        self.0.max_age = max_age.into();
        self
    }

    /// The policy, if browsers will keep its cookie.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do instead; every browser would drop such a cookie without a word, or keep another one
    /// than was meant.
    pub fn build(self) -> Result<CookiePolicy, CookiePolicyError> {
        rules::check(&self.0)?;
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_one_that_build_lets_through() {
        assert_eq!(CookiePolicy::builder().build(), Ok(CookiePolicy::default()));
    }

    #[test]
    fn a_header_with_an_id_shows_nothing() {
        let id = SessionId::parse("0123456789abcdef0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
        let header = CookiePolicy::default().set(&id);
        assert!(header.is_sensitive());
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn max_age_takes_a_span_or_none() {
        let day = Duration::from_secs(86_400);
        let builder = CookiePolicy::builder().max_age(day);
        assert_eq!(builder.clone().build().unwrap().max_age, Some(day));
        assert_eq!(builder.max_age(None).build(), Ok(CookiePolicy::default()));
    }
}
