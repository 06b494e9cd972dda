//! WebSockets: the answer to the upgrade carries the cookie, and in the socket the session can be read, changed and saved.

use axum::{
    Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    http::header::{COOKIE, VARY},
    response::Response,
    routing::any,
};
use futures_util::{SinkExt, StreamExt};
use sessiond_client::axum::{Session, SessionError, SessionLayer};
use sessiond_tests::{World, eventually, on_both_stores, web::Browser};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest},
};
use tower_http::compression::CompressionLayer;

use super::{Web, id, shop};

on_both_stores!(
    the_answer_to_the_upgrade_carries_the_cookie,
    compression_on_either_side_is_not_in_the_way,
    in_the_socket_the_session_is_read_changed_saved_and_read_again,
    two_sockets_and_a_page_add_to_one_list_and_all_count,
    what_a_socket_did_not_save_is_saved_when_it_closes,
    a_socket_can_make_no_session_and_no_new_id,
    a_logout_reaches_the_socket,
);

/// The shop with a socket: each message is something to do with the session.
fn chatty_shop() -> Router {
    async fn chat(upgrade: WebSocketUpgrade, session: Session) -> Response {
        upgrade.on_upgrade(|socket| talk(socket, session))
    }
    async fn enter(upgrade: WebSocketUpgrade, session: Session) -> Result<Response, SessionError> {
        session.insert("name", "ada")?;
        Ok(chat(upgrade, session).await)
    }
    shop().route("/chat", any(chat)).route("/enter", any(enter))
}

async fn talk(mut socket: WebSocket, session: Session) {
    while let Some(Ok(Message::Text(text))) = socket.recv().await {
        let said = act(&session, &text).await.unwrap_or_else(|error| format!("{error:?}"));
        if socket.send(said.into()).await.is_err() {
            return;
        }
    }
}

async fn act(session: &Session, text: &str) -> Result<String, SessionError> {
    let words: Vec<_> = text.split(' ').collect();
    match words[..] {
        ["get", key] => return Ok(session.get::<String>(key)?.unwrap_or_else(|| "nothing".to_owned())),
        ["list", key] => return Ok(session.get::<Vec<String>>(key)?.unwrap_or_default().join(",")),
        ["who"] => return Ok(session.subject().unwrap_or_else(|| "nobody".to_owned())),
        ["insert", key, value] => session.insert(key, value)?,
        ["add", key, value] => {
            let value = value.to_owned();
            session.update(key, move |list: &mut Vec<String>| list.push(value.clone()))?;
        }
        ["rotate"] => session.rotate()?,
        ["login", subject] => session.sign_in(subject)?,
        ["destroy"] => session.destroy(),
        ["save"] => session.save().await?,
        ["load"] => session.load().await?,
        _ => return Ok(format!("what is {text:?}?")),
    }
    Ok("done".to_owned())
}

/// The browser's end of a socket.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(web: &Web, browser: &Browser, path: &str) -> (Self, tungstenite::handshake::client::Response) {
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        if let Some(cookies) = browser.cookies() {
            request.headers_mut().insert(COOKIE, cookies);
        }
        let stream = TcpStream::connect(web.site.address()).await.unwrap();
        let (socket, response) = client_async(request, stream).await.expect("101");
        browser.obey(response.headers());
        (Self(socket), response)
    }

    async fn say(&mut self, text: &str) -> String {
        self.0.send(text.into()).await.unwrap();
        self.0.next().await.expect("an answer").unwrap().into_text().unwrap().as_str().to_owned()
    }
}

async fn the_answer_to_the_upgrade_carries_the_cookie(world: World) {
    let web = Web::with(world, chatty_shop(), |layer| layer).await;
    let browser = web.browser();
    let (mut socket, response) = Socket::open(&web, &browser, "/enter").await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()[VARY], "Cookie");
    assert!(response.headers()["set-cookie"].to_str().unwrap().contains(&id(&browser)));
    assert_eq!(browser.get("/get/name").await.ok(), "ada");
    assert_eq!(socket.say("get name").await, "ada");

    let (_, response) = Socket::open(&web, &browser, "/enter").await;
    assert!(!response.headers().contains_key("set-cookie"), "it has one");
}

async fn compression_on_either_side_is_not_in_the_way(world: World) {
    let app = |sessions: SessionLayer| {
        let outside = chatty_shop().layer(sessions.clone()).layer(CompressionLayer::new());
        let inside = chatty_shop().layer(CompressionLayer::new()).layer(sessions);
        Router::new().nest("/outside", outside).nest("/inside", inside)
    };
    let web = Web::layered(world, app).await;
    for side in ["outside", "inside"] {
        let browser = web.browser();
        let (mut socket, response) = Socket::open(&web, &browser, &format!("/{side}/enter")).await;
        assert_eq!(response.status(), 101, "{side}");
        assert_eq!(browser.get(&format!("/{side}/get/name")).await.ok(), "ada", "{side}");
        assert_eq!(socket.say("insert name eve").await, "done", "{side}");
        assert_eq!(socket.say("save").await, "done", "{side}");
        assert_eq!(browser.get(&format!("/{side}/get/name")).await.ok(), "eve", "{side}");
    }
}

async fn in_the_socket_the_session_is_read_changed_saved_and_read_again(world: World) {
    let web = Web::with(world, chatty_shop(), |layer| layer).await;
    let browser = web.visitor().await;
    let (mut socket, response) = Socket::open(&web, &browser, "/chat").await;
    assert!(!response.headers().contains_key("set-cookie"));
    assert_eq!(socket.say("list cart").await, "tea");
    assert_eq!(socket.say("insert name ada").await, "done");
    assert_eq!(browser.get("/get/name").await.ok(), "nothing", "it is not saved yet");
    assert_eq!(socket.say("save").await, "done");
    assert_eq!(browser.get("/get/name").await.ok(), "ada");

    browser.post("/insert/name/eve").await.ok();
    assert_eq!(socket.say("get name").await, "ada", "as it was");
    assert_eq!(socket.say("load").await, "done");
    assert_eq!(socket.say("get name").await, "eve", "as the other request left it");
    socket.say("insert name bob").await;
    assert_eq!(socket.say("load").await, "done");
    assert_eq!(socket.say("get name").await, "eve", "what was not saved is given up");
    assert_eq!(browser.get("/list/cart").await.ok(), "tea");
}

async fn two_sockets_and_a_page_add_to_one_list_and_all_count(world: World) {
    let web = Web::with(world, chatty_shop(), |layer| layer).await;
    let browser = web.visitor().await;
    let (mut one, _) = Socket::open(&web, &browser, "/chat").await;
    let (mut other, _) = Socket::open(&web, &browser, "/chat").await;
    one.say("add cart milk").await;
    other.say("add cart bread").await;
    browser.post("/add/cart/salt").await.ok();
    for socket in [&mut one, &mut other] {
        assert_eq!(socket.say("save").await, "done");
    }
    assert_eq!(browser.get("/list/cart").await.ok(), "tea,salt,milk,bread");
    assert_eq!(other.say("list cart").await, "tea,salt,milk,bread", "after a Save it holds what is stored");
}

async fn what_a_socket_did_not_save_is_saved_when_it_closes(world: World) {
    let web = Web::with(world, chatty_shop(), |layer| layer).await;
    let browser = web.visitor().await;
    let (mut closed, _) = Socket::open(&web, &browser, "/chat").await;
    let (mut broken, _) = Socket::open(&web, &browser, "/chat").await;
    closed.say("insert name ada").await;
    broken.say("add cart milk").await;
    closed.0.close(None).await.unwrap();
    drop(broken);
    eventually("both are saved", async || {
        browser.get("/get/name").await.ok() == "ada" && browser.get("/list/cart").await.ok() == "tea,milk"
    })
    .await;
}

async fn a_socket_can_make_no_session_and_no_new_id(world: World) {
    let web = Web::with(world, chatty_shop(), |layer| layer).await;
    let stranger = web.browser();
    let (mut socket, response) = Socket::open(&web, &stranger, "/chat").await;
    assert!(!response.headers().contains_key("set-cookie"));
    for message in ["insert name ada", "add cart tea", "rotate", "login ada"] {
        assert_eq!(socket.say(message).await, "ResponseLeft", "{message}");
    }
    assert_eq!(socket.say("save").await, "done", "there is nothing to save");

    let visitor = web.visitor().await;
    let (mut socket, _) = Socket::open(&web, &visitor, "/chat").await;
    for message in ["rotate", "login ada"] {
        assert_eq!(socket.say(message).await, "ResponseLeft", "{message}");
    }
    assert_eq!(socket.say("save").await, "done");
    assert_eq!((socket.say("who").await, visitor.get("/who").await.ok()), ("nobody".to_owned(), "nobody"));
}

async fn a_logout_reaches_the_socket(world: World) {
    let web = Web::with(world, chatty_shop(), |layer| layer).await;
    for message in ["save", "load"] {
        let ada = web.ada().await;
        let replay = ada.copy();
        let (mut socket, _) = Socket::open(&web, &ada, "/chat").await;
        socket.say("insert name eve").await;
        ada.post("/destroy").await.ok();
        assert_eq!(socket.say(message).await, "Vanished", "{message}");
        assert_eq!(socket.say("who").await, "nobody", "{message}");
        assert_eq!(socket.say("insert name eve").await, "ResponseLeft", "{message}");
        assert_eq!(socket.say("save").await, "done", "{message}: nothing is left to save");
        drop(socket);
        assert_eq!(replay.get("/get/name").await.ok(), "nothing", "{message}: nothing brings it back");
    }
    // A logout in the socket itself: the cookie is the browser's still, and opens nothing.
    let ada = web.ada().await;
    let (mut socket, _) = Socket::open(&web, &ada, "/chat").await;
    assert_eq!(socket.say("destroy").await, "done");
    assert_eq!(socket.say("save").await, "done");
    assert_eq!(ada.get("/who").await.ok(), "nobody");
}
