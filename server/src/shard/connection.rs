//! A client's connection: HTTP/2 by the h2 crate, whether the client still lives, and how it ends.

use std::{
    error, io,
    net::TcpStream as StdStream,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::{
    Ping, PingPong, Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep, timeout},
};
use tracing::debug;

use super::{Answers, authority::Inspector};

/// A call as it comes: its head, and the stream that its body comes by.
pub type Call = Request<RecvStream>;

/// Whom its answer goes to.
pub type Caller = SendResponse<Bytes>;

/// The calls at once on one connection.
const MAX_STREAMS: u32 = 256;

/// Streams reset for the client's errors before the connection is ended (RUSTSEC-2024-0003).
const MAX_RESETS: usize = 128;

/// The most bytes of a call's headers that h2 reads, each counted with 32 bytes more. Above it h2 answers HTTP 431 without a gRPC
/// status, and far above (more than four times as much, or too many CONTINUATION frames) it closes the connection. So this is
/// more than the 16 KiB that a call may have, above which it is refused by a status.
const MAX_HEADERS: u32 = 64 * 1024;

/// The bytes that may be on their way to us unread: for one call, and for all of a connection.
const WINDOW: u32 = 1 << 20;

/// How long a connection may be silent before it is asked whether it lives (at the latest after twice that), and how long it
/// may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// How long a new connection may take to say the first words of HTTP/2. Keepalive begins only behind them, and a connection
/// that never speaks would otherwise stay for ever.
const GREETING: Duration = Duration::from_secs(10);

/// How long a connection without a call under way is given to read that it ends. (h2 itself waits for the answer to a PING.)
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves a connection to its end, each call on a task of its own. When `stopping` turns true it says GOAWAY, and ends when the
/// calls under way have.
pub(super) async fn serve(
    io: StdStream,
    answers: impl Answers,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Box<dyn error::Error + Send + Sync>> {
    let socket = Socket::new(io)?;
    let heard = Arc::clone(&socket.heard);
    let handshake = timeout(GREETING, http2().handshake(socket));
    let mut stop = pin!(stopping.wait_for(|stop| *stop));
    let mut connection = tokio::select! {
        greeted = handshake => greeted??,
        _ = &mut stop => return Ok(()),
    };
    let mut keepalive = Keepalive::new(heard, connection.ping_pong());
    let mut is_stopping = false;
    let mut farewell = pin!(sleep(FAREWELL));
    let left = loop {
        tokio::select! {
            // The others are asked when there is no call to take: once for all calls that came together.
            biased;
            call = connection.accept() => match call {
                Some(call) => {
                    let (call, caller) = call?;
                    tokio::spawn(answers.answer(call, caller));
                }
                None => return Ok(()),
            },
            _ = &mut stop, if !is_stopping => {
                is_stopping = true;
                connection.graceful_shutdown();
                farewell.set(sleep(FAREWELL));
            }
            () = &mut farewell, if is_stopping => {
                // Whoever has no call under way and has not read the GOAWAY by now does not listen, as a client that has no
                // thread of its own: its next call finds the connection closed, and makes another.
                if !connection.has_streams() {
                    break Left::Idle;
                }
                farewell.set(sleep(FAREWELL));
            }
            () = keepalive.lost() => {
                debug!("a connection is silent and does not answer");
                break Left::Lost;
            }
        }
    };
    connection.abrupt_shutdown(Reason::NO_ERROR);
    let closed = poll_fn(|context| connection.poll_closed(context));
    match left {
        // Answers that the socket had no room for yet are written before.
        Left::Idle => closed.await?,
        // Whoever does not read is not waited for.
        Left::Lost => drop(timeout(FAREWELL, closed).await),
    }
    Ok(())
}

/// Why we end a connection.
enum Left {
    /// We stop, and it has no call under way.
    Idle,
    /// Nobody is there.
    Lost,
}

/// How we speak HTTP/2.
fn http2() -> Builder {
    let mut http2 = Builder::new();
    http2
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(Some(MAX_RESETS))
        .max_header_list_size(MAX_HEADERS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    http2
}

/// Whether the other end lives: one timer, and one word kept by the socket, whatever goes over it.
struct Keepalive {
    heard: Arc<AtomicBool>,
    ping: Option<PingPong>,
    asked: bool,
    timer: Pin<Box<Sleep>>,
}

impl Keepalive {
    fn new(heard: Arc<AtomicBool>, ping: Option<PingPong>) -> Self {
        Self { heard, ping, asked: false, timer: Box::pin(sleep(KEEPALIVE.0)) }
    }

    /// Ends when the other end was silent and did not answer when asked.
    async fn lost(&mut self) {
        loop {
            self.timer.as_mut().await;
            let after = match (self.heard.swap(false, Ordering::Relaxed), self.asked) {
                (true, _) => {
                    self.asked = false;
                    KEEPALIVE.0
                }
                (false, false) => {
                    self.ask().await;
                    self.asked = true;
                    KEEPALIVE.1
                }
                (false, true) => return,
            };
            self.timer.as_mut().reset(Instant::now() + after);
        }
    }

    async fn ask(&mut self) {
        let Some(ping) = &mut self.ping else { return };
        // Takes away the answer to the one before, without which there is no next.
        let _ = poll_fn(|context| Poll::Ready(ping.poll_pong(context))).await;
        // One that was not sent is one that is not answered.
        let _ = ping.send_ping(Ping::opaque());
    }
}

/// A client's socket. It does not tell that it could write several buffers at once: then h2 gathers small answers
/// into one write instead of flushing each (measured: see `bench/README.md`).
struct Socket {
    io: TcpStream,
    /// Whether anything came since this was last set to false.
    heard: Arc<AtomicBool>,
    /// Until the client's first call, and for longer only if its `:authority` is not valid.
    inspector: Option<Box<Inspector>>,
}

impl Socket {
    fn new(io: StdStream) -> io::Result<Self> {
        io.set_nodelay(true)?;
        let inspector = Some(Box::new(Inspector::new()));
        Ok(Self { io: TcpStream::from_std(io)?, heard: Arc::default(), inspector })
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, heard, inspector } = &mut *self;
        let (polled, came) = match inspector {
            None => {
                let polled = Pin::new(io).poll_read(context, buf);
                let came = polled.is_ready();
                (polled, came)
            }
            Some(inspecting) => {
                let held = inspecting.held();
                let polled = inspecting.poll_read(io, context, buf);
                let came = polled.is_ready() || inspecting.held() > held;
                if inspecting.is_aside() {
                    *inspector = None;
                }
                (polled, came)
            }
        };
        if came {
            heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::TcpListener};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinHandle,
    };

    use super::*;

    /// Works on every call for ever.
    #[derive(Clone)]
    struct Forever;

    impl Answers for Forever {
        fn answer(&self, call: Call, caller: Caller) -> impl Future<Output = ()> + Send + 'static {
            let kept = (call, caller);
            async {
                let _kept = kept;
                pending().await
            }
        }
    }

    /// Serves a connection; the client's end of it, what stops it, and the end of the serving.
    async fn served() -> (TcpStream, watch::Sender<bool>, JoinHandle<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(async move { serve(socket, Forever, stopping).await.is_ok() });
        (client, stop, serving)
    }

    /// The first words of HTTP/2, with no settings.
    const FIRST_WORDS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    #[tokio::test(start_paused = true)]
    async fn who_has_no_call_under_way_and_does_not_listen_holds_no_stop() {
        let (mut client, stop, mut serving) = served().await;
        client.write_all(FIRST_WORDS).await.unwrap();
        assert!(timeout(Duration::from_secs(30), &mut serving).await.is_err(), "it is let be");
        stop.send_replace(true);
        assert!(timeout(3 * FAREWELL, serving).await.unwrap().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_under_way_holds_the_stop() {
        let (client, stop, mut serving) = served().await;
        let (mut calls, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        let (answer, _body) = calls.send_request(http::Request::new(()), false).unwrap();
        assert!(timeout(Duration::from_secs(1), answer).await.is_err(), "there is none");
        stop.send_replace(true);
        assert!(timeout(10 * FAREWELL, &mut serving).await.is_err(), "it was cut");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_falls_silent_is_asked_and_then_given_up() {
        let (mut client, _stop, serving) = served().await;
        // The first words, and no more for ever: not even an answer to our settings.
        client.write_all(FIRST_WORDS).await.unwrap();
        let begun = Instant::now();
        serving.await.unwrap();
        assert!(begun.elapsed() <= 2 * KEEPALIVE.0 + KEEPALIVE.1 + Duration::from_secs(1), "{:?}", begun.elapsed());
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        let kinds: Vec<u8> = frames(&told).map(|frame| frame[3]).collect();
        assert!(kinds.ends_with(&[PING, GOAWAY]), "{kinds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up_as_well() {
        let (mut client, _stop, serving) = served().await;
        client.write_all(FIRST_WORDS).await.unwrap();
        // Their answers fill all room that there is, and then nothing more is read here.
        let pings = b"\0\0\x08\x06\0\0\0\0\0as if...".repeat(4096);
        while timeout(Duration::from_secs(1), client.write_all(&pings)).await.is_ok() {}
        let most = 2 * KEEPALIVE.0 + KEEPALIVE.1 + Duration::from_secs(1);
        assert!(timeout(most, serving).await.unwrap().unwrap());
    }

    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            let length = u32::from_be_bytes([0, *bytes.first()?, bytes[1], bytes[2]]) as usize;
            bytes.split_off(..9 + length)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_heard_is_let_live() {
        let heard = Arc::new(AtomicBool::default());
        let mut keepalive = Keepalive::new(Arc::clone(&heard), None);
        for _ in 0..20 {
            // It says something now and then, perhaps only when asked.
            heard.store(true, Ordering::Relaxed);
            let soon = KEEPALIVE.0 + KEEPALIVE.1 - Duration::from_secs(1);
            assert!(timeout(soon, keepalive.lost()).await.is_err(), "it was given up");
        }
        let lost = timeout(2 * KEEPALIVE.0 + KEEPALIVE.1, keepalive.lost()).await;
        assert!(lost.is_ok(), "it says nothing any more");
    }
}
