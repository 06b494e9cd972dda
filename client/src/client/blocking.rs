//! A client whose calls block the thread that makes them: no runtime, no thread of its own, one system call to ask and one to
//! be answered.
//!
//! For applications without a runtime, and for bindings to languages whose threads wait.

mod connection;
mod frames;
mod headers;
mod pool;
mod socket;
mod stream;
#[cfg(feature = "tls")]
mod tls;

use std::{
    fmt, io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tonic::{Code, Status};

use self::{connection::Reply, headers::Told, pool::Pool, socket::Broken};
use super::{
    SessionClientBuilder,
    calls::Calls,
    nodes::Work,
    transport::{Head, Question, Transport, Trouble},
};
use crate::{Error, Save, Session, SessionId};

/// The most bytes of a message that are read: as much as tonic reads.
const LONGEST_MESSAGE: usize = 4 << 20;

/// A client of sessiond whose calls block; cheap to clone, and to be shared by any number of threads.
///
/// It is what the [other one](crate::SessionClient) is, in deadlines, repeats and errors; only who waits differs. A call has a
/// connection of its own while it lasts, which goes back into a pool after it.
///
/// Nothing but calls of threads that are there uses it, but where the service's address is a name: then a thread looks that
/// up now and then, and ends. A process that forks must not use it in both: the child makes another, and forgets this one
/// ([`std::mem::forget`]), whose connections are its parent's.
#[derive(Clone)]
pub struct SessionClient(Arc<Calls<Sockets>>);

impl SessionClient {
    /// A client of the service at this address, as [`SessionClient::new`](crate::SessionClient::new) reads it.
    ///
    /// # Errors
    /// When that is no address. Whether the service is there shows with the first call.
    pub fn new(address: &str) -> Result<Self, super::ConfigError> {
        Self::builder().address(address).build_blocking()
    }

    /// For all that has a default: ends with [`build_blocking`](SessionClientBuilder::build_blocking).
    pub fn builder() -> SessionClientBuilder {
        SessionClientBuilder::default()
    }

    pub(super) fn from_builder(builder: SessionClientBuilder) -> Result<Self, super::ConfigError> {
        let sockets = Sockets { interrupted: builder.interrupted.unwrap_or(|| Ok(())) };
        builder.calls(sockets, look_up_on_a_thread, pool::connector).map(|calls| Self(Arc::new(calls)))
    }

    /// As [`SessionClient::open`](crate::SessionClient::open).
    ///
    /// # Errors
    /// The same.
    pub fn open(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        wait(self.0.open(id, false))
    }

    /// As [`SessionClient::peek`](crate::SessionClient::peek).
    ///
    /// # Errors
    /// The same.
    pub fn peek(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        wait(self.0.open(id, true))
    }

    /// As [`SessionClient::save`](crate::SessionClient::save).
    ///
    /// # Errors
    /// The same.
    pub fn save(&self, save: Save) -> Result<Session, Error> {
        wait(self.0.save(save))
    }

    /// As [`SessionClient::destroy`](crate::SessionClient::destroy).
    ///
    /// # Errors
    /// The same.
    pub fn destroy(&self, id: &SessionId) -> Result<(), Error> {
        wait(self.0.destroy(id))
    }

    /// As [`SessionClient::destroy_unchanged`](crate::SessionClient::destroy_unchanged).
    ///
    /// # Errors
    /// The same.
    pub fn destroy_unchanged(&self, session: &Session) -> Result<(), Error> {
        wait(self.0.destroy_unchanged(session))
    }

    /// As [`SessionClient::was_replaced`](crate::SessionClient::was_replaced).
    ///
    /// # Errors
    /// The same.
    pub fn was_replaced(&self, id: &SessionId) -> Result<bool, Error> {
        wait(self.0.was_replaced(id))
    }
}

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClient").field("deadlines", &self.0.deadlines()).finish_non_exhaustive()
    }
}

/// Sockets, in the hands of the thread that calls.
pub(crate) struct Sockets {
    interrupted: Interrupted,
}

/// Asked when a signal came while a call waits; an error ends the call.
pub(super) type Interrupted = fn() -> io::Result<()>;

impl Transport for Sockets {
    type Channel = Pool;

    async fn ask<Q: Question>(&self, pool: &Pool, question: &Q, head: Head<'_>) -> Result<Q::Answer, Trouble> {
        let wait = socket::Wait { until: head.until, interrupted: self.interrupted };
        let reply = pool.call(Q::PATH, &framed(question), head, &wait).map_err(Trouble::from)?;
        read(reply).map_err(Trouble::Status)
    }

    /// The only wait that is woken by another thread: the one that looks names up.
    async fn within<A>(&self, until: Instant, future: impl Future<Output = A>) -> Option<A> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(answer);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            thread::park_timeout(left);
        }
    }

    async fn sleep_until(&self, then: Instant) -> Result<(), Error> {
        socket::sleep(&socket::Wait { until: then, interrupted: self.interrupted }).map_err(Error::unreachable)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Makes a call. Its waits are within, so that it is there when it is first asked for.
fn wait<A>(call: impl Future<Output = A>) -> A {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("this transport waits where it is"),
    }
}

/// The system's look-up waits for a name server as long as that likes, so no caller does it.
fn look_up_on_a_thread(work: Work) {
    let look_up = || {
        // For that time only: what looks up is the same as elsewhere, and that wants a runtime.
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
            runtime.block_on(work);
        }
    };
    // Where no thread can be had, the work is dropped, and says so to whoever waits for it.
    let _ = thread::Builder::new().name("sessiond-lookup".to_owned()).spawn(look_up);
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut framed = Vec::with_capacity(5 + length);
    framed.push(0);
    framed.extend((length as u32).to_be_bytes());
    message.encode_raw(&mut framed);
    framed
}

/// What an answer says.
fn read<A: prost::Message + Default>(reply: Reply) -> Result<A, Status> {
    match reply.told {
        Told::Ok => {}
        Told::Begins => return Err(Status::unknown("the answer ended without a status")),
        Told::Other(headers, http) => {
            return Err(Status::from_header_map(&headers).unwrap_or_else(|| without_status(http)));
        }
    }
    let Some((&[compressed, a, b, c, d], message)) = reply.body.split_first_chunk() else {
        return Err(Status::internal("the answer has no message"));
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > LONGEST_MESSAGE {
        return Err(Status::out_of_range(format!("a message of {length} bytes, which is more than is read")));
    }
    if compressed != 0 || length != message.len() {
        return Err(Status::internal("the answer is not one message as it was asked for"));
    }
    A::decode(message).map_err(|error| Status::internal(error.to_string()))
}

/// What an HTTP status means where gRPC's own is missing (gRPC's `http-grpc-status-mapping.md`).
fn without_status(http: Option<u16>) -> Status {
    let code = match http {
        Some(400) => Code::Internal,
        Some(401) => Code::Unauthenticated,
        Some(403) => Code::PermissionDenied,
        Some(404) => Code::Unimplemented,
        Some(429 | 502 | 503 | 504) => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("an answer without a gRPC status: HTTP {}", http.unwrap_or_default()))
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        let status = match broken {
            Broken::Deadline => return Self::Deadline,
            Broken::Interrupted(cause) => return Self::Interrupted(cause),
            Broken::Lost(cause) => {
                let mut status = Status::unavailable(cause.to_string());
                status.set_source(Arc::new(cause));
                status
            }
            Broken::Reset(code) => Status::new(of_reset(code), format!("the call was reset: HTTP/2 error {code}")),
        };
        Self::Status(status)
    }
}

/// What an HTTP/2 error means (gRPC's `PROTOCOL-HTTP2.md`).
fn of_reset(code: u32) -> Code {
    match code {
        7 => Code::Unavailable,
        8 => Code::Cancelled,
        11 => Code::ResourceExhausted,
        12 => Code::PermissionDenied,
        0..=4 | 6 | 9 | 10 => Code::Internal,
        _ => Code::Unknown,
    }
}

/// As a header says it (gRPC's `PROTOCOL-HTTP2.md`): at most eight digits.
fn timeout(left: Duration) -> String {
    match (left.as_micros(), left.as_millis()) {
        (micros @ ..100_000_000, _) => format!("{micros}u"),
        (_, millis @ ..100_000_000) => format!("{millis}m"),
        _ => format!("{}S", left.as_secs()),
    }
}

#[cfg(test)]
mod tests;
