//! Bodies that stream: the session is saved before the head leaves, and what a stream does to it afterwards is kept too.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    http::{
        Method, Request,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, COOKIE},
    },
    routing::get,
};
use http_body_util::Full;
use sessiond_client::axum::{Session, SessionError, SessionLayer};
use sessiond_tests::{World, eventually, on_both_stores, web::Browser};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tower_http::compression::CompressionLayer;

use super::{Web, id, shop};

on_both_stores!(
    the_session_is_saved_before_the_head_leaves,
    with_compression_on_either_side_it_is_saved_before_the_head_leaves,
    what_a_stream_saves_is_kept,
    what_a_stream_changes_and_does_not_save_is_kept,
    what_a_stream_changed_is_kept_when_its_reader_goes_away,
    a_stream_can_make_no_session_and_no_new_id,
    a_stream_brings_no_session_back,
);

/// A body that the test writes piece by piece, and a page that has it, after it put a name into the session.
fn held_back() -> (mpsc::UnboundedSender<&'static str>, Router) {
    let (pieces, body) = mpsc::unbounded_channel::<&str>();
    let body = Arc::new(Mutex::new(Some(body)));
    let stream = async move |session: Session| -> Result<Body, SessionError> {
        session.insert("name", "ada")?;
        let body = body.lock().expect("nobody panicked with it").take().expect("it is asked for once");
        Ok(Body::from_stream(UnboundedReceiverStream::new(body).map(Ok::<_, Infallible>)))
    };
    (pieces, shop().route("/stream", get(stream)))
}

async fn the_session_is_saved_before_the_head_leaves(world: World) {
    let (pieces, app) = held_back();
    let web = Web::with(world, app, |layer| layer).await;
    let browser = web.browser();
    let mut head = browser.head(Method::GET, "/stream", "").await;
    assert_eq!(browser.get("/get/name").await.ok(), "ada", "nothing of the body has been written");
    for piece in ["one", "two"] {
        pieces.send(piece).unwrap();
        assert_eq!(head.chunk().await.unwrap(), piece);
    }
    drop(pieces);
    assert_eq!(head.chunk().await, None);
}

async fn with_compression_on_either_side_it_is_saved_before_the_head_leaves(world: World) {
    let ((outer, one), (inner, other)) = (held_back(), held_back());
    let app = |sessions: SessionLayer| {
        let outside = one.layer(sessions.clone()).layer(CompressionLayer::new());
        let inside = other.layer(CompressionLayer::new()).layer(sessions);
        Router::new().nest("/outside", outside).nest("/inside", inside)
    };
    let web = Web::layered(world, app).await;
    for (side, pieces) in [("outside", outer), ("inside", inner)] {
        let browser = web.browser();
        let request = Request::get(format!("/{side}/stream")).header(ACCEPT_ENCODING, "gzip");
        let head = browser.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(head.headers[CONTENT_ENCODING], "gzip", "{side}");
        browser.obey(&head.headers);
        assert_eq!(browser.get(&format!("/{side}/get/name")).await.ok(), "ada", "{side}");
        pieces.send("the body").unwrap();
        drop(pieces);
        assert!(!head.page().await.body.is_empty(), "{side}");
    }
}

/// A page whose body does one thing after another to the session, each when the piece before it has been written, and tells
/// what came of it.
fn streaming<F>(what: impl Fn(Session, usize) -> F + Clone + Send + Sync + 'static) -> Router
where
    F: Future<Output = Result<String, SessionError>> + Send + 'static,
{
    let stream = async move |session: Session| {
        let pieces = tokio_stream::iter(0..3).then(move |piece| {
            let done = what(session.clone(), piece);
            async move { Ok::<_, Infallible>(done.await.unwrap_or_else(|error| format!("{error:?}")) + "\n") }
        });
        Body::from_stream(pieces)
    };
    shop().route("/stream", get(stream))
}

fn see(session: &Session, piece: usize) -> Result<(), SessionError> {
    session.update("seen", move |seen: &mut Vec<String>| seen.push(piece.to_string())).map(drop)
}

async fn what_a_stream_saves_is_kept(world: World) {
    let saves = |session: Session, piece| async move {
        see(&session, piece)?;
        session.save().await?;
        session.get::<Vec<String>>("seen").map(|seen| seen.unwrap_or_default().join(","))
    };
    let web = Web::with(world, streaming(saves), |layer| layer).await;
    let browser = web.visitor().await;
    let mut head = browser.head(Method::GET, "/stream", "").await;
    let mut shown = String::new();
    for seen in ["0\n", "0\n0,1\n", "0\n0,1\n0,1,2\n"] {
        // Hyper may ask for the next piece before the one before it is out.
        while shown.len() < seen.len() {
            shown.push_str(str::from_utf8(&head.chunk().await.expect("there is more")).unwrap());
        }
        let last = shown.lines().next_back().expect("a line").to_owned();
        assert!(browser.get("/list/seen").await.ok().starts_with(&last), "what it says is saved is there");
    }
    assert_eq!(shown, "0\n0,1\n0,1,2\n");
    assert_eq!(browser.get("/list/cart").await.ok(), "tea");
}

async fn what_a_stream_changes_and_does_not_save_is_kept(world: World) {
    let changes = |session: Session, piece| async move { see(&session, piece).map(|()| piece.to_string()) };
    let web = Web::with(world, streaming(changes), |layer| layer).await;
    let browser = web.visitor().await;
    assert_eq!(browser.get("/stream").await.ok(), "0\n1\n2\n");
    eventually("it is saved", async || browser.get("/list/seen").await.ok() == "0,1,2").await;
    assert_eq!(browser.get("/stream").await.ok(), "0\n1\n2\n");
    eventually("and again", async || browser.get("/list/seen").await.ok() == "0,1,2,0,1,2").await;
}

async fn what_a_stream_changed_is_kept_when_its_reader_goes_away(world: World) {
    let changes = |session: Session, piece| async move {
        see(&session, piece)?;
        if piece == 2 {
            // There is more to come, and it does not come.
            std::future::pending::<()>().await;
        }
        Ok(piece.to_string())
    };
    let web = Web::with(world, streaming(changes), |layer| layer).await;
    let browser = web.visitor().await;
    let mut head = browser.head(Method::GET, "/stream", "").await;
    let mut lines = 0;
    while lines < 2 {
        lines += head.chunk().await.expect("there is more").iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(browser.get("/list/seen").await.ok(), "", "it is not saved yet");
    drop(head);
    eventually("it is saved", async || browser.get("/list/seen").await.ok() == "0,1,2").await;
}

async fn a_stream_can_make_no_session_and_no_new_id(world: World) {
    let tries = |session: Session, piece| async move {
        match piece {
            0 => session.insert("name", "ada"),
            1 => session.rotate(),
            _ => session.sign_in("ada"),
        }?;
        session.save().await.map(|()| "done".to_owned())
    };
    let web = Web::with(world, streaming(tries), |layer| layer).await;
    let stranger = web.browser();
    let page = stranger.get("/stream").await;
    assert_eq!(page.ok(), "ResponseLeft\nResponseLeft\nResponseLeft\n");
    super::sets_nothing(&page);
    assert_eq!(page.varies_by(), ["cookie"]);

    let visitor = web.visitor().await;
    let before = id(&visitor);
    let page = visitor.get("/stream").await;
    assert_eq!(page.ok(), "done\nResponseLeft\nResponseLeft\n");
    assert_eq!(id(&visitor), before);
    assert_eq!((visitor.get("/get/name").await.ok(), visitor.get("/who").await.ok()), ("ada", "nobody"));
}

async fn a_stream_brings_no_session_back(world: World) {
    let saves = |session: Session, piece| async move {
        see(&session, piece)?;
        if piece < 2 {
            session.save().await?;
        }
        Ok(piece.to_string())
    };
    let web = Web::with(world, streaming(saves), |layer| layer).await;
    let browser = web.visitor().await;
    let replay: Browser = browser.copy();
    // The stream's first Save waits until its visitor has signed out.
    let mut held = web.gate.hold(sessiond_tests::web::Call::Save);
    let stream = browser.head(Method::GET, "/stream", "").await;
    held.arrived().await;
    browser.post("/destroy").await.ok();
    held.release();
    let page = stream.page().await;
    assert_eq!(page.ok(), "Vanished\nResponseLeft\nResponseLeft\n");
    assert_eq!(browser.cookies(), None, "{COOKIE}");
    assert_eq!(replay.get("/list/seen").await.ok(), "");
}
