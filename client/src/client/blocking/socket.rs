//! A socket whose waits end by a deadline, or with a signal.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{super::builder::CONNECT_TIMEOUT, Interrupted};

/// The longest that the kernel is let wait without our asking how much time is left: mostly the answer comes before, and
/// nothing had to be asked.
const TICK: Duration = Duration::from_millis(50);

/// Its timeouts of sockets are that much late at most.
const LATE: Duration = Duration::from_millis(20);

/// How long to wait for something.
pub(super) struct Wait {
    pub(super) until: Instant,
    pub(super) interrupted: Interrupted,
}

impl Wait {
    fn left(&self) -> Result<Duration, Broken> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Broken::Deadline) } else { Ok(left) }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// It did not come in time.
    Deadline,
    /// The caller waits no longer.
    Interrupted(io::Error),
    /// There is no connection, or none any more.
    Lost(io::Error),
    /// This call was reset, with this error of HTTP/2's; its connection stays.
    Reset(u32),
}

impl Broken {
    /// It is not HTTP/2, or not as it should be.
    pub(super) fn strange(what: &'static str) -> Self {
        Self::Lost(io::Error::new(ErrorKind::InvalidData, what))
    }

    pub(super) fn ended() -> Self {
        Self::Lost(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed"))
    }
}

/// A connection's bytes.
pub(super) struct Socket {
    io: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<Box<rustls::ClientConnection>>,
}

impl Socket {
    pub(super) fn connect(place: SocketAddr, wait: &Wait) -> Result<Self, Broken> {
        let left = wait.left()?;
        let io = TcpStream::connect_timeout(&place, left.min(CONNECT_TIMEOUT)).map_err(|error| match error.kind() {
            ErrorKind::TimedOut if left <= CONNECT_TIMEOUT => Broken::Deadline,
            _ => Broken::Lost(error),
        })?;
        let set_up = || {
            io.set_nodelay(true)?;
            io.set_read_timeout(Some(TICK))?;
            io.set_write_timeout(Some(TICK))
        };
        set_up().map_err(Broken::Lost)?;
        Ok(Self {
            io,
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    #[cfg(feature = "tls")]
    pub(super) fn secured(self, tls: rustls::ClientConnection) -> Self {
        Self { tls: Some(Box::new(tls)), ..self }
    }

    /// Sends all of it.
    pub(super) fn send(&mut self, bytes: &mut Vec<u8>, wait: &Wait) -> Result<(), Broken> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes).map_err(Broken::Lost)?;
            bytes.clear();
            return send_records(&self.io, tls, wait);
        }
        let mut sent = 0;
        while sent < bytes.len() {
            sent += attempt(&self.io, PollFlags::OUT, wait, || (&self.io).write(&bytes[sent..]))?;
        }
        bytes.clear();
        Ok(())
    }

    /// Waits for bytes; 0 where there will be none any more.
    pub(super) fn receive(&mut self, into: &mut [u8], wait: &Wait) -> Result<usize, Broken> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            loop {
                match tls.reader().read(into) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                    read => return read.map_err(Broken::Lost),
                }
                attempt(&self.io, PollFlags::IN, wait, || tls.read_tls(&mut &self.io))?;
                let said = tls.process_new_packets().map_err(|error| Broken::Lost(io::Error::other(error)));
                // What went wrong is told to the other side as well, if that still listens.
                let sent = send_records(&self.io, tls, wait);
                said?;
                sent?;
            }
        }
        attempt(&self.io, PollFlags::IN, wait, || (&self.io).read(into))
    }

    /// Whether something came, if only the end.
    pub(super) fn has_news(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.as_ref().is_some_and(|tls| !tls.wants_read()) {
            return true;
        }
        let mut ask = [PollFd::new(&self.io, PollFlags::IN)];
        poll(&mut ask, Some(&Timespec::default())) != Ok(0)
    }
}

#[cfg(feature = "tls")]
fn send_records(io: &TcpStream, tls: &mut rustls::ClientConnection, wait: &Wait) -> Result<(), Broken> {
    while tls.wants_write() {
        attempt(io, PollFlags::OUT, wait, || tls.write_tls(&mut &*io))?;
    }
    Ok(())
}

/// Tries until it succeeds or the time is over. The socket itself waits, for a tick at most, so that one system call does
/// where there is time enough; the last of the time is waited for exactly.
fn attempt(
    io: &TcpStream,
    ready: PollFlags,
    wait: &Wait,
    mut once: impl FnMut() -> io::Result<usize>,
) -> Result<usize, Broken> {
    loop {
        let left = wait.left()?;
        if left <= TICK + LATE && !is_ready(&mut [PollFd::new(io, ready)], left, wait)? {
            continue;
        }
        match once() {
            Ok(done) => return Ok(done),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                (wait.interrupted)().map_err(Broken::Interrupted)?;
            }
            Err(error) => return Err(Broken::Lost(error)),
        }
    }
}

/// Waits for one of these; not so if the time is over or a signal came.
fn is_ready(ready: &mut [PollFd<'_>], time: Duration, wait: &Wait) -> Result<bool, Broken> {
    let timeout = Timespec::try_from(time).ok();
    match poll(ready, timeout.as_ref()) {
        Ok(how_many) => Ok(how_many > 0),
        Err(rustix::io::Errno::INTR) => (wait.interrupted)().map(|()| false).map_err(Broken::Interrupted),
        Err(error) => Err(Broken::Lost(error.into())),
    }
}

/// Waits until the time is over.
pub(super) fn sleep(wait: &Wait) -> io::Result<()> {
    while let Ok(left) = wait.left() {
        if let Err(Broken::Interrupted(error) | Broken::Lost(error)) = is_ready(&mut [], left, wait) {
            return Err(error);
        }
    }
    Ok(())
}
