//! Whatever a stranger sends as `Cookie` fields: the reader never panics, and says what a second reader says that is
//! written the slow and plain way, with characters and without the client's code.
#![no_main]

use http::{HeaderMap, HeaderValue, header::COOKIE};
use libfuzzer_sys::fuzz_target;
use sessiond_client::{CookiePolicy, cookie::CookieRead};

const NAME: &str = "__Host-id";

// A line for each field; what is no header value never reaches a server.
fuzz_target!(|input: &[u8]| {
    let fields = input.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let fields: Vec<HeaderValue> = fields.collect();
    let policy = CookiePolicy::default();

    let read = policy.read(&request(fields.iter()));
    assert_eq!(words(&read), plain_read(&fields));
    let shown = format!("{read:?}");
    assert!(["Absent", "Malformed", "Ambiguous", "Id(SessionId(..))"].contains(&&*shown), "{shown}");

    // Neither the order of the fields nor what another application keeps is of any account.
    assert_eq!(policy.read(&request(fields.iter().rev())), read);
    let foreign = HeaderValue::from_bytes(b"\xff\"=\x80; \xe2\x80\x80__Host-id=\"; ;").unwrap();
    assert_eq!(policy.read(&request(fields.iter().chain([&foreign]))), read);
});

fn request<'a>(fields: impl Iterator<Item = &'a HeaderValue>) -> HeaderMap {
    fields.map(|field| (COOKIE, field.clone())).collect()
}

fn words(read: &CookieRead) -> String {
    match read {
        CookieRead::Absent => "absent".to_owned(),
        CookieRead::Malformed => "malformed".to_owned(),
        CookieRead::Ambiguous => "ambiguous".to_owned(),
        CookieRead::Id(id) => id.expose().to_owned(),
    }
}

/// The second reader: one character for each byte, all fields in one text.
fn plain_read(fields: &[HeaderValue]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|field| field.as_bytes().iter().map(|byte| char::from(*byte)).collect()).collect();
    let text = fields.join(";");
    let mut values: Vec<&str> = Vec::new();
    for cookie in text.split(';') {
        let cookie = cookie.trim_matches([' ', '\t']);
        let Some(rest) = cookie.strip_prefix(NAME) else { continue };
        let Some(value) = rest.trim_start_matches([' ', '\t']).strip_prefix('=') else { continue };
        values.push(value.trim_start_matches([' ', '\t']));
    }
    match values[..] {
        [] => "absent".to_owned(),
        [value] if is_id(value) => value.to_owned(),
        [_] => "malformed".to_owned(),
        _ => "ambiguous".to_owned(),
    }
}

fn is_id(value: &str) -> bool {
    const SECRET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let characters: Vec<char> = value.chars().collect();
    characters.len() == 65
        && characters.iter().enumerate().all(|(at, character)| match at {
            0..32 => "0123456789abcdef".contains(*character),
            32 => *character == '.',
            _ => SECRET.contains(*character),
        })
}
