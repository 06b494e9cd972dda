//! `cookies.json`: how the session's cookie is written and read. Its "about" tells how to read it.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde_json::{Value, json as j};
use sessiond_client::{
    CookiePolicy, SessionId,
    cookie::{CookiePolicyError, CookieRead, SameSite},
};

use super::{list, vectors};

const FILE: &str = "cookies.json";

#[test]
fn a_policy_writes_exactly_this_cookie_and_exactly_this_removal() {
    let vectors = vectors(FILE);
    for vector in list(&vectors, "policies") {
        let name = &vector["name"];
        let policy = policy(&vector["settings"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let id = SessionId::parse(vector["id"].as_str().unwrap()).unwrap();
        let set = policy.set(&id);
        assert_eq!(parts(set.as_bytes()), parts(&text(&vector["set"])), "{name}");
        assert_eq!(parts(policy.remove().as_bytes()), parts(&text(&vector["remove"])), "{name}, removed");

        let (pair, _) = parts(set.as_bytes());
        let sent = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(pair).unwrap())]);
        assert_eq!(policy.read(&sent), CookieRead::Id(id), "{name}, sent back");
    }
}

#[test]
fn what_browsers_would_not_keep_is_refused() {
    let vectors = vectors(FILE);
    for vector in list(&vectors, "refused") {
        let error = policy(&vector["settings"]).expect_err(vector["about"].as_str().unwrap());
        assert_eq!(reason(&error), vector["reason"], "{}: {error}", vector["about"]);
    }
}

#[test]
fn a_request_reads_as_one_session_or_none() {
    let vectors = vectors(FILE);
    let policies: BTreeMap<_, _> = list(&vectors, "policies")
        .iter()
        .map(|vector| (vector["name"].as_str(), policy(&vector["settings"]).unwrap()))
        .collect();
    for vector in list(&vectors, "reads") {
        let fields = vector["cookie"].as_array().unwrap().iter();
        let request = fields.map(|field| (COOKIE, HeaderValue::try_from(text(field)).unwrap())).collect();
        let read = match policies[&vector["policy"].as_str()].read(&request) {
            CookieRead::Absent => j!("absent"),
            CookieRead::Malformed => j!("malformed"),
            CookieRead::Ambiguous => j!("ambiguous"),
            CookieRead::Id(id) => j!({ "id": id.expose() }),
        };
        assert_eq!(read, vector["read"], "{}", vector["about"]);
    }
}

/// The policy with these settings.
fn policy(settings: &Value) -> Result<CookiePolicy, CookiePolicyError> {
    let mut builder = CookiePolicy::builder();
    for (setting, value) in settings.as_object().unwrap() {
        builder = match setting.as_str() {
            "name" => builder.name(utf8(value)),
            "domain" => builder.domain(utf8(value)),
            "path" => builder.path(utf8(value)),
            "same_site" => builder.same_site(match value.as_str() {
                Some("Strict") => SameSite::Strict,
                Some("Lax") => SameSite::Lax,
                Some("None") => SameSite::None,
                _ => panic!("{value}"),
            }),
            "secure" => builder.secure(value.as_bool().unwrap()),
            "partitioned" => builder.partitioned(value.as_bool().unwrap()),
            "max_age" => builder.max_age(Duration::from_secs_f64(value.as_f64().unwrap())),
            _ => panic!("{setting} is no setting"),
        }
    }
    builder.build()
}

/// The vectors' word for a refusal.
fn reason(error: &CookiePolicyError) -> &'static str {
    match error {
        CookiePolicyError::Name(_) => "name",
        CookiePolicyError::NameTooLong(_) => "name-too-long",
        CookiePolicyError::PrefixSpelling { .. } => "prefix-spelling",
        CookiePolicyError::PrefixNeedsSecure(_) => "prefix-needs-secure",
        CookiePolicyError::PrefixNeedsRootPath(_) => "prefix-needs-root-path",
        CookiePolicyError::PrefixForbidsDomain(_) => "prefix-forbids-domain",
        CookiePolicyError::SameSiteNoneNeedsSecure => "same-site-none-needs-secure",
        CookiePolicyError::PartitionedNeedsSecure => "partitioned-needs-secure",
        CookiePolicyError::Domain(_) => "domain",
        CookiePolicyError::Path(_) => "path",
        CookiePolicyError::PathTooLong(_) => "path-too-long",
        CookiePolicyError::MaxAge(_) => "max-age",
        _ => panic!("a refusal without a vector: {error}"),
    }
}

/// A `Set-Cookie` header as name=value and its attributes in an order of ours: theirs is free. One that is there twice
/// stays there twice.
fn parts(header: &[u8]) -> (String, Vec<String>) {
    let mut parts = str::from_utf8(header).expect("it is ASCII").split("; ").map(str::to_owned);
    let pair = parts.next().unwrap();
    let mut attributes: Vec<_> = parts.collect();
    attributes.sort();
    (pair, attributes)
}

/// The bytes of a text: a string, or a list of pieces.
fn text(value: &Value) -> Vec<u8> {
    let Some(pieces) = value.as_array() else { return value.as_str().expect("a text").into() };
    pieces.iter().flat_map(piece).collect()
}

fn piece(piece: &Value) -> Vec<u8> {
    if let Some(digits) = piece["hex"].as_str() {
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits");
        return (0..digits.len()).step_by(2).map(byte).collect();
    }
    if let Some(repeated) = piece["repeat"].as_str() {
        let times = usize::try_from(piece["times"].as_u64().expect("a number of times")).unwrap();
        return repeated.repeat(times).into();
    }
    piece.as_str().expect("a piece").into()
}

/// A text that a setting can be.
fn utf8(value: &Value) -> String {
    String::from_utf8(text(value)).expect("settings are UTF-8")
}
