//! Where one reply of Redis ends and the next begins (RESP2 and RESP3), told from the bytes as they come.

/// A reply, whole, as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    /// Nobody asked for it: it answers no command.
    pub(super) is_push: bool,
}

/// Takes bytes as they come, and gives replies once they are whole.
#[derive(Default)]
pub(super) struct Replies {
    buffer: Vec<u8>,
    /// How far the buffer was looked through.
    at: usize,
    /// How many elements are still to come, of the aggregate begun last, of the one around it, and so on.
    open: Vec<u64>,
}

impl Replies {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole reply, if it has come.
    pub(super) fn next(&mut self) -> Option<Reply> {
        loop {
            let (header, rest) = self.element()?;
            self.at += header + rest.bytes;
            if rest.is_attribute {
                // It comes before the element that it is about, and counts for nothing itself.
                match self.open.last_mut() {
                    Some(open) => *open += rest.elements,
                    None => self.open.push(rest.elements + 1),
                }
                continue;
            }
            if rest.elements > 0 {
                self.open.push(rest.elements);
                continue;
            }
            self.ended();
            if self.open.is_empty() {
                let bytes: Vec<u8> = self.buffer.drain(..self.at).collect();
                self.at = 0;
                let is_push = bytes.first() == Some(&b'>');
                return Some(Reply { bytes, is_push });
            }
        }
    }

    /// An element is whole, and with it every aggregate that it was the last one of.
    fn ended(&mut self) {
        while let Some(open) = self.open.last_mut() {
            *open -= 1;
            if *open > 0 {
                return;
            }
            self.open.pop();
        }
    }

    /// The length of the next element's first line, and what must follow it; `None` if it has not all come.
    fn element(&self) -> Option<(usize, Rest)> {
        let here = &self.buffer[self.at..];
        let end = here.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &here[..end];
        let count = || {
            let digits = std::str::from_utf8(&line[1..]).ok().and_then(|digits| digits.parse::<u64>().ok());
            digits.expect("Redis tells a length")
        };
        // A null of RESP2 has no content and no elements.
        let is_null = &line[1..] == b"-1";
        let mut rest = Rest { bytes: 0, elements: 0, is_attribute: false };
        match line.first().expect("Redis sends no empty line") {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'=' | b'!' if is_null => {}
            b'$' | b'=' | b'!' => rest.bytes = count() as usize + 2,
            b'*' | b'~' | b'>' if is_null => {}
            b'*' | b'~' | b'>' => rest.elements = count(),
            b'%' => rest.elements = count() * 2,
            b'|' => rest = Rest { bytes: 0, elements: count() * 2, is_attribute: true },
            other => panic!("Redis sends no {:?}", char::from(*other)),
        }
        (here.len() >= end + 2 + rest.bytes).then_some((end + 2, rest))
    }
}

struct Rest {
    bytes: usize,
    elements: u64,
    is_attribute: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, and what is easily got wrong: CRLF within a string, aggregates within each other, nothing in them.
    const REPLIES: [&str; 17] = [
        "+OK\r\n",
        "-ERR no\r\n",
        ":42\r\n",
        "$5\r\na\r\nb\r\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*1\r\n:1\r\n*0\r\n",
        "*3\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n~1\r\n#t\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
        "_\r\n",
        ",1.5\r\n",
        "(12345678901234567890\r\n",
        "=7\r\ntxt:a\r\n\r\n",
        "|1\r\n+ttl\r\n:3\r\n*2\r\n:1\r\n:2\r\n",
        ">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
    ];

    fn told(replies: &mut Replies) -> Vec<String> {
        let next = std::iter::from_fn(|| replies.next());
        next.map(|reply| String::from_utf8(reply.bytes).expect("the test's replies are text")).collect()
    }

    #[test]
    fn replies_are_told_apart_when_all_come_at_once() {
        let mut replies = Replies::default();
        replies.take(REPLIES.concat().as_bytes());
        assert_eq!(told(&mut replies), REPLIES);
    }

    #[test]
    fn replies_are_told_apart_when_they_come_byte_by_byte() {
        let (mut replies, mut seen) = (Replies::default(), Vec::new());
        for byte in REPLIES.concat().as_bytes() {
            replies.take(&[*byte]);
            seen.extend(told(&mut replies));
        }
        assert_eq!(seen, REPLIES);
    }

    #[test]
    fn a_reply_is_not_whole_before_its_last_byte() {
        for reply in REPLIES {
            let mut replies = Replies::default();
            replies.take(&reply.as_bytes()[..reply.len() - 1]);
            assert_eq!(replies.next(), None, "{reply:?}");
            replies.take(b"\n");
            assert_eq!(told(&mut replies), [reply]);
        }
    }

    #[test]
    fn a_push_is_no_answer() {
        let mut replies = Replies::default();
        replies.take(b">1\r\n+a\r\n+OK\r\n");
        assert!(replies.next().expect("a push").is_push);
        assert!(!replies.next().expect("an answer").is_push);
    }
}
