//! RESP3 as it comes: values out of bytes of which there may not be enough yet. What answers to calls are made of is read here;
//! the rest, which comes when a connection is made or something went wrong, is left to redis-rs's parser.

use redis::{Value, parse_redis_value};

/// The longest line, in bytes. Whatever is long is no line.
const MAX_LINE: usize = 64 << 10;

/// How deep answers may nest. Ours have three levels.
const MAX_DEPTH: usize = 16;

/// Bytes that are no RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// The first value in these bytes, and how many of them it takes; `None` if it is not all there.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Value, usize)>, Garbled> {
    let mut rest = bytes;
    let value = value(&mut rest, 0)?;
    Ok(value.map(|value| (value, bytes.len() - rest.len())))
}

fn value(rest: &mut &[u8], depth: usize) -> Result<Option<Value>, Garbled> {
    let whole = *rest;
    let Some((sign, head)) = line(rest)? else { return Ok(None) };
    match sign {
        b'$' => match length(head)? {
            None => Ok(Some(Value::Nil)),
            Some(length) => Ok(blob(rest, length)?.map(|blob| Value::BulkString(blob.to_vec()))),
        },
        b':' => Ok(Some(Value::Int(number(head)?))),
        b'_' => Ok(Some(Value::Nil)),
        b'*' => {
            let Some(count) = length(head)? else { return Ok(Some(Value::Nil)) };
            if depth == MAX_DEPTH {
                return Err(Garbled);
            }
            // Each of them has some bytes, so a count that promises more than there is makes no room for it.
            let mut values = Vec::with_capacity(count.min(rest.len()));
            for _ in 0..count {
                let Some(value) = value(rest, depth + 1)? else { return Ok(None) };
                values.push(value);
            }
            Ok(Some(Value::Array(values)))
        }
        _ => {
            *rest = whole;
            if !skip(rest, depth)? {
                return Ok(None);
            }
            parse_redis_value(&whole[..whole.len() - rest.len()]).map(Some).map_err(|_| Garbled)
        }
    }
}

/// Passes over one value; false if it is not all there.
fn skip(rest: &mut &[u8], depth: usize) -> Result<bool, Garbled> {
    let Some((sign, head)) = line(rest)? else { return Ok(false) };
    let values = match sign {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => 0,
        b'$' | b'!' | b'=' => match length(head)? {
            None => 0,
            Some(length) => return blob(rest, length).map(|blob| blob.is_some()),
        },
        b'*' | b'~' | b'>' => length(head)?.unwrap_or_default(),
        b'%' => 2 * length(head)?.unwrap_or_default(),
        // An attribute stands before what it is about.
        b'|' => 2 * length(head)?.unwrap_or_default() + 1,
        _ => return Err(Garbled),
    };
    if values > 0 && depth == MAX_DEPTH {
        return Err(Garbled);
    }
    for _ in 0..values {
        if !skip(rest, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The next line: its sign, and what it says.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, Garbled> {
    let Some(end) = rest.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if rest.len() < MAX_LINE { Ok(None) } else { Err(Garbled) };
    };
    let (line, after) = rest.split_at(end + 1);
    *rest = after;
    let (sign, head) = line.split_first().ok_or(Garbled)?;
    Ok(Some((*sign, head.strip_suffix(b"\r\n").unwrap_or(head))))
}

/// So many bytes, and the end of their line.
fn blob<'a>(rest: &mut &'a [u8], length: usize) -> Result<Option<&'a [u8]>, Garbled> {
    let Some((blob, after)) = rest.split_at_checked(length) else { return Ok(None) };
    let Some((end, after)) = after.split_first_chunk::<2>() else { return Ok(None) };
    *rest = after;
    if end == b"\r\n" { Ok(Some(blob)) } else { Err(Garbled) }
}

/// A length; none is written as -1.
fn length(head: &[u8]) -> Result<Option<usize>, Garbled> {
    match number(head)? {
        -1 => Ok(None),
        // Redis's own limit for a value.
        length @ 0..=0x2000_0000 => Ok(Some(length as usize)),
        _ => Err(Garbled),
    }
}

fn number(digits: &[u8]) -> Result<i64, Garbled> {
    str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [&[u8]; 14] = [
        b"$5\r\nhello\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b":1800000000000\r\n",
        b":-2\r\n",
        b"_\r\n",
        b"*3\r\n$6\r\nSTORED\r\n:7\r\n*1\r\n$4\r\na\r\nb\r\n",
        b"*-1\r\n",
        b"+OK\r\n",
        b"-NOSCRIPT No matching script. Please use EVAL.\r\n",
        b"%2\r\n+server\r\n$5\r\nredis\r\n+proto\r\n:3\r\n",
        b"=8\r\ntxt:info\r\n",
        b">3\r\n+message\r\n$1\r\nc\r\n$1\r\nm\r\n",
        b"*2\r\n-ERR odd\r\n~1\r\n#t\r\n",
    ];

    #[test]
    fn every_answer_is_read_as_redis_rs_reads_it() {
        for bytes in ANSWERS {
            let (value, length) = read(bytes).unwrap().unwrap();
            assert_eq!((value, length), (parse_redis_value(bytes).unwrap(), bytes.len()), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_all_there_is_waited_for() {
        for bytes in ANSWERS {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None), "{}", bytes[..end].escape_ascii());
            }
            let two = [bytes, bytes].concat();
            assert_eq!(read(&two).unwrap().unwrap().1, bytes.len(), "the next one is left alone");
        }
    }

    #[test]
    fn what_is_no_resp_is_told_so() {
        for wrong in ["HTTP/1.1 400\r\n", "$x\r\n", ":\r\n", "$3\r\nabcd\r\n", "$-2\r\n", "*9999999999\r\n", "\r\n"] {
            assert_eq!(read(wrong.as_bytes()), Err(Garbled), "{wrong:?}");
        }
        assert_eq!(read("+".repeat(MAX_LINE).as_bytes()), Err(Garbled), "a line without an end");
        assert_eq!(read("*1\r\n".repeat(40).as_bytes()), Err(Garbled));
        assert_eq!(read("~1\r\n".repeat(40).as_bytes()), Err(Garbled));
    }
}
