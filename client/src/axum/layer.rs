//! The layer: hands each request its session, and saves it before the response leaves.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum_core::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY},
};
use tower_layer::Layer;
use tower_service::Service;
use tracing::warn;

use super::{
    Session, SessionError,
    state::{Cookie, Shared},
};
use crate::{CookiePolicy, SessionClient};

type OnError = dyn Fn(SessionError, Response) -> Response + Send + Sync;

/// Gives every request inside it a [`Session`], and saves what its handler changed before the response leaves.
///
/// It sets the cookie, with `Cache-Control: no-store`; says `Vary: Cookie` wherever a handler looked at the session (OWASP
/// ASVS 14.3.2); and says `Clear-Site-Data` after a [`destroy`](Session::destroy) (ASVS 14.3.1). Works inside and outside of
/// `tower_http`'s compression and around WebSocket upgrades.
#[derive(Clone)]
pub struct SessionLayer(Arc<Settings>);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) client: SessionClient,
    pub(super) cookie: CookiePolicy,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) lifetime: Option<Duration>,
    clear_site_data: bool,
    on_error: Option<Arc<OnError>>,
}

impl SessionLayer {
    /// A layer over this client, with the default cookie: `__Host-id`, Secure, HttpOnly, SameSite=Lax.
    pub fn new(client: SessionClient) -> Self {
        let (cookie, idle_timeout, lifetime) = (CookiePolicy::default(), None, None);
        Self(Arc::new(Settings { client, cookie, idle_timeout, lifetime, clear_site_data: true, on_error: None }))
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }

    /// Another cookie.
    pub fn cookie(self, policy: CookiePolicy) -> Self {
        self.with(|settings| settings.cookie = policy)
    }

    /// How long a new session lives without being used, instead of the service's default: at least 1 s, cut to what the
    /// service allows.
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        self.with(|settings| settings.idle_timeout = Some(idle_timeout))
    }

    /// The absolute lifetime of a new session and of a login, however often the session is used, instead of the service's
    /// maximum (`--max-lifetime`): at least 1 s, cut to that maximum. [`Session::set_lifetime`] sets another one.
    pub fn lifetime(self, lifetime: Duration) -> Self {
        self.with(|settings| settings.lifetime = Some(lifetime))
    }

    /// Whether a [`destroy`](Session::destroy) tells the browser to forget its cached pages and what scripts stored
    /// (`Clear-Site-Data: "cache", "storage"`). Default true.
    pub fn clear_site_data(self, clear: bool) -> Self {
        self.with(|settings| settings.clear_site_data = clear)
    }

    /// What becomes of a handler's response when its changes could not be saved. By default the error's own response takes
    /// its place ([`SessionError`] says which): 503 in an outage, 409 if the session vanished, 500 for a fault.
    ///
    /// ```
    /// # use sessiond_client::{SessionClient, axum::{SessionError, SessionLayer}};
    /// use axum::response::IntoResponse;
    /// # let client = SessionClient::new("http://127.0.0.1:50051")?;
    /// let layer = SessionLayer::new(client).on_error(|error, response| match error {
    ///     // Whoever was signed out meanwhile may still see the page that was asked for.
    ///     SessionError::Vanished => response,
    ///     error => error.into_response(),
    /// });
    /// # Ok::<_, sessiond_client::ConfigError>(())
    /// ```
    pub fn on_error(self, decide: impl Fn(SessionError, Response) -> Response + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.on_error = Some(Arc::new(decide)))
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService { inner, settings: Arc::clone(&self.0) }
    }
}

/// What [`SessionLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut http_request: Request<B>) -> Self::Future {
        let shared = Arc::new(Shared::new(Arc::clone(&self.settings)));
        // A log of the request's headers, further in, shows no id.
        let cookies = http_request.headers_mut().iter_mut().filter(|(name, _)| *name == COOKIE);
        cookies.for_each(|(_, value)| value.set_sensitive(true));
        http_request.extensions_mut().insert(Session(Arc::clone(&shared)));
        // Not the clone: it has not been asked whether it is ready.
        let inner = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, inner);
        let request = UnderWay(shared);
        let answer = ready.call(http_request);
        Box::pin(async move {
            let response = answer.await?.into_response();
            Ok(if request.0.accessed() { request.0.finish(response).await } else { response })
        })
    }
}

/// A request whose response has not left. When nobody waits for it any more, nothing of what it did is saved, and no cookie can
/// be set for what still holds its session.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if !state.left {
            state.forget();
            state.left = true;
        }
    }
}

impl Shared {
    /// Saves, and tells the browser.
    async fn finish(&self, response: Response) -> Response {
        // Nobody saves what needs a cookie between this save and the moment the response leaves.
        let _turn = self.saving.lock().await;
        let (saved, mut response) = match self.save_in_turn().await {
            Ok(()) => (true, response),
            Err(error) => {
                let handle = self.state().stored.as_ref().map(|session| session.handle().to_owned());
                warn!(?handle, error = &error as &dyn std::error::Error, "the changes of a session were not saved");
                let response = match &self.settings.on_error {
                    Some(decide) => decide(error, response),
                    None => error.into_response(),
                };
                (false, response)
            }
        };
        let mut state = self.state();
        if !saved {
            // The visitor is told that it was not kept.
            state.forget();
        }
        state.left = true;
        let headers = response.headers_mut();
        vary_by_cookie(headers);
        // Even if a later save failed: a new id that was not delivered would be a session lost.
        if let Some(cookie) = state.cookie.take() {
            let policy = &self.settings.cookie;
            let cookie = match cookie {
                Cookie::Set(id) => policy.set(&id),
                Cookie::Remove => policy.remove(),
            };
            headers.append(SET_COOKIE, cookie);
            // In place of whatever the handler said: nobody else may be given this response.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if state.signed_out && self.settings.clear_site_data {
            let clear = HeaderValue::from_static("\"cache\", \"storage\"");
            headers.append(HeaderName::from_static("clear-site-data"), clear);
        }
        drop(state);
        response
    }
}

/// Adds `Cookie` to what the response varies by, unless it is said already.
fn vary_by_cookie(headers: &mut HeaderMap) {
    let says = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"cookie"))
    };
    if !headers.get_all(VARY).iter().any(says) {
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, cookie, idle_timeout, lifetime, clear_site_data, on_error: _ } = self;
        f.debug_struct("Settings")
            .field("client", client)
            .field("cookie", cookie)
            .field("idle_timeout", idle_timeout)
            .field("lifetime", lifetime)
            .field("clear_site_data", clear_site_data)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionLayer").field(&self.0).finish()
    }
}
