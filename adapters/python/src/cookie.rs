//! The session's cookie: which id a request holds, and whether browsers will keep what an application is set up to send. And
//! the tokens of its forms.
//!
//! The cookie itself is written by Flask's response, by Flask's settings.

use http::{HeaderMap, HeaderValue, header::COOKIE};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyString,
};
use sessiond_client::{
    CookiePolicy,
    cookie::{CookieRead, SameSite},
    csrf,
};

use crate::session::SessionId;

/// Reads the cookie of one name.
#[pyclass(frozen, module = "sessiond")]
pub(crate) struct CookieReader(CookiePolicy);

#[pymethods]
impl CookieReader {
    #[new]
    fn new(name: &str) -> PyResult<Self> {
        let policy = CookiePolicy::builder().name(name).build();
        policy.map(Self).map_err(|refused| PyValueError::new_err(refused.to_string()))
    }

    /// What a `Cookie` header says, as WSGI has it: the id, or "absent", "malformed" or "ambiguous".
    fn read(&self, py: Python<'_>, header: Option<&Bound<'_, PyString>>) -> PyResult<Py<PyAny>> {
        let read = match header {
            None => CookieRead::Absent,
            Some(text) => match HeaderValue::from_bytes(&latin1(text)?) {
                Ok(field) => self.0.read(&HeaderMap::from_iter([(COOKIE, field)])),
                // A control character: no browser sends that.
                Err(_) => CookieRead::Malformed,
            },
        };
        let word = match read {
            CookieRead::Id(id) => return Ok(Py::new(py, SessionId(id))?.into_any()),
            CookieRead::Absent => "absent",
            CookieRead::Malformed => "malformed",
            CookieRead::Ambiguous => "ambiguous",
        };
        Ok(PyString::intern(py, word).into_any().unbind())
    }
}

/// The bytes that came, each of which WSGI (PEP 3333) makes a character of.
fn latin1(text: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    let text = text.to_cow()?;
    if text.is_ascii() {
        return Ok(text.as_bytes().to_vec());
    }
    let bytes: Option<_> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.ok_or_else(|| PyTypeError::new_err("a header as WSGI has it holds no characters beyond latin-1"))
}

/// Checks that browsers will keep a cookie with these settings.
///
/// # Errors
/// `ValueError`, which says what is wrong and what to do.
#[pyfunction]
#[pyo3(signature = (*, name, domain, path, secure, same_site, partitioned))]
pub(crate) fn check_cookie(
    name: &str,
    domain: Option<&str>,
    path: &str,
    secure: bool,
    same_site: Option<&str>,
    partitioned: bool,
) -> PyResult<()> {
    let same_site = match same_site {
        Some("Strict") => SameSite::Strict,
        Some("None") => SameSite::None,
        // Flask leaves it out if it is not set, and browsers take that for Lax, more or less.
        None | Some("Lax") => SameSite::Lax,
        Some(other) => {
            return Err(PyValueError::new_err(format!(
                "a cookie's SameSite cannot be {other:?}: say Lax, Strict or None"
            )));
        }
    };
    let mut policy =
        CookiePolicy::builder().name(name).path(path).secure(secure).same_site(same_site).partitioned(partitioned);
    if let Some(domain) = domain {
        policy = policy.domain(domain);
    }
    policy.build().map(drop).map_err(|refused| PyValueError::new_err(refused.to_string()))
}

/// A new secret for the tokens of a session's forms.
#[pyfunction]
pub(crate) fn csrf_secret() -> String {
    csrf::secret()
}

/// Whether this is such a secret.
#[pyfunction]
pub(crate) fn csrf_is_secret(text: &str) -> bool {
    csrf::is_secret(text)
}

/// A token of this secret.
#[pyfunction]
pub(crate) fn csrf_token(secret: &str) -> String {
    csrf::token(secret)
}

/// Whether this is a token of this secret.
#[pyfunction]
#[pyo3(signature = (secret, token))]
pub(crate) fn csrf_check(secret: Option<&str>, token: &str) -> bool {
    csrf::check(secret, token)
}
