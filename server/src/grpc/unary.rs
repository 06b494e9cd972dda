//! gRPC over HTTP/2 for a call of one message and one answer, which is all that this service has. tonic's own way is made for
//! streams of them, and boxes and copies at each step for it (measured: see `bench/README.md`).

use std::pin::{Pin, pin};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::poll_fn;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Body;
use prost::Message;
use tonic::Status;

use super::{MAX_MESSAGE_BYTES, status};

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Reads the one message of a body, and answers it.
///
/// A body that is no message, or one of more than [`MAX_MESSAGE_BYTES`], is answered without the handler: INVALID_ARGUMENT. So is
/// a compressed one: UNIMPLEMENTED, as gRPC has it.
pub async fn answer<M, A, F>(body: impl Body<Data = Bytes>, handle: impl FnOnce(M) -> F) -> Response<Reply>
where
    M: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let answer = match read(body).await {
        Ok(message) => handle(message).await,
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok(answer) => Reply::message(&answer),
        Err(status) => Reply::refusal(status),
    }
}

/// Reads the one message of a body.
async fn read<M: Message + Default>(body: impl Body<Data = Bytes>) -> Result<M, Status> {
    let mut body = pin!(body);
    let mut all = piece(&mut body).await?.unwrap_or_default();
    let mut complete = is_complete(&all)?;
    // Nearly always it came in one piece, which is then read where it lies.
    if let Some(second) = piece(&mut body).await? {
        let mut gathered = BytesMut::from(&all[..]);
        gathered.put(second);
        complete = is_complete(&gathered)?;
        while let Some(more) = piece(&mut body).await? {
            gathered.put(more);
            complete = is_complete(&gathered)?;
        }
        all = gathered.freeze();
    }
    if !complete {
        return Err(status::unreadable_message());
    }
    M::decode(all.split_off(HEAD)).map_err(|_| status::unreadable_message())
}

/// The next bytes of a body; `None` at its end.
async fn piece(body: &mut Pin<&mut impl Body<Data = Bytes>>) -> Result<Option<Bytes>, Status> {
    loop {
        if body.is_end_stream() {
            return Ok(None);
        }
        match poll_fn(|context| body.as_mut().poll_frame(context)).await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            // The caller has gone, or does not speak HTTP: hardly anyone will hear this.
            Some(Err(_)) => return Err(status::unreadable_message()),
        }
    }
}

/// Whether all of the message is there. What cannot become one is refused before more of it is read. (The header `grpc-encoding`
/// does not matter: a message says for itself whether it is compressed.)
fn is_complete(body: &[u8]) -> Result<bool, Status> {
    let Some((&[compressed, ref length @ ..], message)) = body.split_first_chunk::<HEAD>() else { return Ok(false) };
    let length = u32::from_be_bytes(*length) as usize;
    match compressed {
        0 if length > MAX_MESSAGE_BYTES => Err(status::message_too_large()),
        0 if message.len() > length => Err(status::unreadable_message()),
        0 => Ok(message.len() == length),
        1 => Err(status::compressed()),
        _ => Err(status::unreadable_message()),
    }
}

/// What comes behind the head of an answer.
#[derive(Debug)]
pub enum Reply {
    /// A message with the bytes before it; behind it comes that all went well.
    Message(Bytes),
    /// Nothing but a status, which is told in the answer's head.
    Nothing,
    /// What another service answers.
    Others(tonic::body::Body),
}

impl Reply {
    fn message(message: &impl Message) -> Response<Self> {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(HEAD + length);
        frame.put_u8(0);
        // An answer is about as large as a session, which is far below 4 GiB.
        frame.put_u32(length as u32);
        message.encode_raw(&mut frame);
        let mut response = Response::new(Self::Message(frame.freeze()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }

    /// That the time was over for a service other than ours.
    pub(crate) fn late() -> Response<Self> {
        Self::refusal(status::late())
    }

    /// That a call to any service has more metadata than it may have.
    pub(crate) fn too_much_metadata() -> Response<Self> {
        Self::refusal(status::too_much_metadata())
    }

    pub(super) fn refusal(status: Status) -> Response<Self> {
        status.into_http::<()>().map(|()| Self::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        task::{Context, Poll},
    };

    use futures_util::FutureExt;
    use http_body::Frame;
    use sessiond_proto::v1::{OpenRequest, SaveResponse};
    use tonic::Code;

    use super::*;

    /// A body that comes in pieces; after them it ends, or says nothing more.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        ends: bool,
    }

    impl Pieces {
        fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
            Self { pieces: pieces.into_iter().map(Bytes::copy_from_slice).collect(), ends: true }
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    /// What the handler was given, or the code that it was not asked for.
    fn read(body: Pieces) -> Result<OpenRequest, Code> {
        // Nothing here waits for anything that is not there already.
        super::read(body).now_or_never().expect("an answer").map_err(|status| status.code())
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        [&[0][..], &(message.encoded_len() as u32).to_be_bytes(), &message.encode_to_vec()].concat()
    }

    #[test]
    fn a_message_is_read_however_it_comes() {
        let request = OpenRequest { id: "x".repeat(65), no_renew: true };
        let bytes = framed(&request);
        assert_eq!(read(Pieces::of([&bytes[..]])), Ok(request.clone()));
        assert_eq!(read(Pieces::of(bytes.chunks(1))), Ok(request.clone()));
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(read(Pieces::of([first, second])), Ok(request.clone()), "in two, at {at}");
        }
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        let bytes = framed(&OpenRequest::default());
        let two = [&bytes[..], &bytes].concat();
        for wrong in
            [&b""[..], b"\0\0", b"\0\0\0\0\x64too short", b"\0\0\0\0\0x", b"\x02\0\0\0\0", b"\0\0\0\0\x01\xff", &two]
        {
            assert_eq!(read(Pieces::of([wrong])), Err(Code::InvalidArgument), "{}", wrong.escape_ascii());
            assert_eq!(read(Pieces::of(wrong.chunks(1))), Err(Code::InvalidArgument), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn what_will_not_be_read_is_refused_before_it_has_come() {
        let endless = |head: &'static [u8]| Pieces { ends: false, ..Pieces::of([head]) };
        assert_eq!(read(endless(b"\0\0\x10\0\x01")), Err(Code::InvalidArgument), "more than a MiB");
        assert_eq!(read(endless(b"\x01\0\0\0\x01")), Err(Code::Unimplemented), "compressed");
        assert!(super::read::<OpenRequest>(endless(b"\0\0\x10\0\0")).now_or_never().is_none(), "a MiB is waited for");
        let status = super::read::<OpenRequest>(endless(b"\x01")).now_or_never();
        assert!(status.is_none(), "a head that is not all there");
        assert_eq!(status::compressed().metadata().get("grpc-accept-encoding").unwrap(), "identity");
    }

    #[test]
    fn an_answer_is_a_message_with_its_head() {
        let message = SaveResponse::default();
        let (head, reply) = Reply::message(&message).into_parts();
        assert_eq!(head.headers.get(CONTENT_TYPE).unwrap(), "application/grpc");
        assert!(matches!(reply, Reply::Message(frame) if frame == framed(&message)));
    }

    #[test]
    fn a_refusal_is_told_in_the_head() {
        let response = Reply::refusal(Status::not_found("gone"));
        assert!(matches!(response.body(), Reply::Nothing));
        assert_eq!(response.headers().get("grpc-status").unwrap(), "5");
    }
}
