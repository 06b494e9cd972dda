//! A layer as it is written everywhere, and as the snippet that people paste has it: the whole map is read before the handler
//! and written after it, `GET` and `SETEX`. The races must lose updates on it and bring sessions back, or they prove nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{COOKIE, SET_COOKIE},
        request::Parts,
    },
    middleware::{self, Next},
    response::Response,
};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use sessiond_client::axum::SessionError;

use super::races::Keeps;

type Map = BTreeMap<String, String>;

/// A session that is a map, and its id.
#[derive(Clone)]
pub(super) struct Naive(Arc<Mutex<(String, Map)>>);

impl Naive {
    fn state(&self) -> MutexGuard<'_, (String, Map)> {
        self.0.lock().expect("no test panicked with it")
    }
}

/// The application with this layer around it.
pub(super) fn around(app: Router, redis: MultiplexedConnection) -> Router {
    app.layer(middleware::from_fn_with_state(redis, keep))
}

async fn keep(State(mut redis): State<MultiplexedConnection>, mut request: Request, next: Next) -> Response {
    let cookie = request.headers().get(COOKIE).and_then(|value| value.to_str().ok()?.strip_prefix("__Host-id="));
    let id = cookie.unwrap_or_default().to_owned();
    let stored: Option<String> = redis.get(format!("naive:{id}")).await.expect("Redis answers");
    let before: Map = stored.map(|text| serde_json::from_str(&text).expect("we wrote it")).unwrap_or_default();
    let session = Naive(Arc::new(Mutex::new((id.clone(), before.clone()))));
    request.extensions_mut().insert(session.clone());
    let mut response = next.run(request).await;

    let (mut new_id, after) = session.state().clone();
    let mut cookie = None;
    if after.is_empty() && !before.is_empty() {
        let () = redis.del(format!("naive:{id}")).await.expect("Redis answers");
        cookie = Some("__Host-id=; Max-Age=0".to_owned());
    } else if after != before || new_id != id {
        if new_id.is_empty() {
            new_id = uuid::Uuid::new_v4().to_string();
        }
        if new_id != id {
            let () = redis.del(format!("naive:{id}")).await.expect("Redis answers");
            cookie = Some(format!("__Host-id={new_id}"));
        }
        let text = serde_json::to_string(&after).expect("text");
        let () = redis.set_ex(format!("naive:{new_id}"), text, 60).await.expect("Redis answers");
    }
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, HeaderValue::try_from(cookie).expect("ASCII"));
    }
    response
}

impl FromRequestParts<()> for Naive {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, (): &()) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl Keeps for Naive {
    fn note(&self, key: &str) -> Result<(), SessionError> {
        self.state().1.insert(key.to_owned(), "noted".to_owned());
        Ok(())
    }

    fn add(&self, item: String) -> Result<(), SessionError> {
        let list = self.list()? + "," + &item;
        self.state().1.insert("list".to_owned(), list.trim_start_matches(',').to_owned());
        Ok(())
    }

    fn sign_in(&self) -> Result<(), SessionError> {
        self.rotate()?;
        self.state().1.insert("user".to_owned(), "ada".to_owned());
        Ok(())
    }

    fn rotate(&self) -> Result<(), SessionError> {
        self.state().0 = uuid::Uuid::new_v4().to_string();
        Ok(())
    }

    fn sign_out(&self) {
        self.state().1.clear();
    }

    fn clear(&self) {
        self.sign_out();
    }

    fn has(&self, key: &str) -> bool {
        self.state().1.contains_key(key)
    }

    fn list(&self) -> Result<String, SessionError> {
        Ok(self.state().1.get("list").cloned().unwrap_or_default())
    }

    fn who(&self) -> Option<String> {
        self.state().1.get("user").cloned()
    }
}
