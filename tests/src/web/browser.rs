//! A browser: one connection for each request, a jar of cookies that all its tabs share, and nothing done behind the
//! test's back.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{COOKIE, HOST, SET_COOKIE, VARY},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A browser. Clones are tabs: they share the jar. A request carries what is in the jar when it is sent; what its answer says
/// of cookies is done when it comes, as browsers do.
#[derive(Clone)]
pub struct Browser {
    site: SocketAddr,
    jar: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Browser {
    /// A browser that has never been at this site.
    pub fn new(site: SocketAddr) -> Self {
        Self { site, jar: Arc::default() }
    }

    /// Another browser with the same cookies: whoever copied them, or a tab whose requests are slow.
    pub fn copy(&self) -> Self {
        let jar = self.jar.lock().expect("no test panicked with it").clone();
        Self { site: self.site, jar: Arc::new(Mutex::new(jar)) }
    }

    /// A browser with this cookie and no other.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let jar = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Self { site: self.site, jar: Arc::new(Mutex::new(jar)) }
    }

    /// The cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.lock().expect("no test panicked with it").get(name).cloned()
    }

    /// What it sends as its `Cookie` header.
    pub fn cookies(&self) -> Option<HeaderValue> {
        let jar = self.jar.lock().expect("no test panicked with it");
        let all: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!all.is_empty()).then(|| HeaderValue::try_from(all.join("; ")).expect("cookies are ASCII"))
    }

    /// Does what an answer says of cookies. (By name alone: in these tests no two differ only in path or domain.)
    pub fn obey(&self, headers: &HeaderMap) {
        let mut jar = self.jar.lock().expect("no test panicked with it");
        for header in headers.get_all(SET_COOKIE) {
            let mut parts = header.to_str().expect("cookies are ASCII").split("; ");
            let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
            if parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0")) {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Gets a page.
    pub async fn get(&self, path: &str) -> Page {
        self.head(Method::GET, path, "").await.page().await
    }

    /// Posts to a page.
    pub async fn post(&self, path: &str) -> Page {
        self.post_body(path, "").await
    }

    /// Posts this text.
    pub async fn post_body(&self, path: &str, body: &str) -> Page {
        self.head(Method::POST, path, body).await.page().await
    }

    /// Sends a request, and waits for no more than the head of the answer.
    pub async fn head(&self, method: Method, path: &str, body: &str) -> Head {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(cookies) = self.cookies() {
            request = request.header(COOKIE, cookies);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        let head = self.send(request.body(body).expect("it is a request")).await;
        self.obey(&head.headers);
        head
    }

    /// Sends this very request: the jar is neither asked nor told.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Head {
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        let stream = TcpStream::connect(self.site).await.expect("the application listens");
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.expect("an answer").into_parts();
        Head { status: parts.status, headers: parts.headers, body }
    }
}

/// The head of an answer, whose body may still be under way.
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Head {
    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            match self.body.frame().await?.expect("the body comes whole").into_data() {
                Ok(data) => return Some(data),
                Err(_trailers) => {}
            }
        }
    }

    /// All of it.
    pub async fn page(self) -> Page {
        let body = self.body.collect().await.expect("the body comes whole").to_bytes();
        Page { status: self.status, headers: self.headers, body }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Page {
    /// The body as text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("it is text")
    }

    /// The body, of a page that was to succeed.
    pub fn ok(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.text()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("it is ASCII"))
    }

    /// The `Set-Cookie` headers.
    pub fn set_cookies(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().expect("it is ASCII")).collect()
    }

    /// What it says it varies by, in lower case.
    pub fn varies_by(&self) -> Vec<String> {
        let all = self.headers.get_all(VARY).iter().flat_map(|value| value.to_str().expect("it is ASCII").split(','));
        all.map(|name| name.trim().to_ascii_lowercase()).collect()
    }
}
