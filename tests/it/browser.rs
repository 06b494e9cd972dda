//! A real browser in the example's shop: what a visitor sees, and what is left for whoever comes after.

use std::{collections::BTreeMap, time::Duration};

use fantoccini::{Client, ClientBuilder, Locator, cookies::Cookie};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use sessiond_tests::{Chromium, Shop, World, eventually, on_both_stores, rounds};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

on_both_stores!(
    a_login_gives_the_cookie_another_value_and_no_script_sees_either,
    two_tabs_fill_one_cart_at_the_same_moment_and_lose_nothing,
    a_tab_from_before_the_login_is_refused_and_does_no_harm,
    after_signing_out_neither_the_back_button_nor_an_old_cookie_opens_anything,
);

/// The most that one visit may take: a browser on a busy machine is slow, and none hangs for ever.
const VISIT: Duration = Duration::from_secs(120);

const ADA: &str = "Ada Lovelace";

async fn a_login_gives_the_cookie_another_value_and_no_script_sees_either(world: World) {
    visit(world, async |visitor| {
        visitor.go("/").await;
        visitor.go("/cart").await;
        assert!(visitor.cookie().await.is_none(), "who only looks has no cookie");

        visitor.add("sencha").await;
        let before = visitor.cookie().await.expect("a cart needs a session");
        assert_is_safe(&before);
        let handle = visitor.handle().await;
        assert_eq!(visitor.script("return document.cookie").await, "");

        visitor.sign_in(ADA).await;
        let after = visitor.cookie().await.expect("there is still a session");
        assert_is_safe(&after);
        assert!(before.value() != after.value(), "the id is another one");
        assert_eq!(visitor.script("return document.cookie").await, "");
        // The session is the same one all the same, and so is the cart.
        assert_eq!(visitor.handle().await, handle);
        assert_eq!(visitor.cart().await, BTreeMap::from([("sencha".to_owned(), 1)]));

        // Whoever knew the id from before the login has nothing of it.
        assert!(visitor.without_a_browser(&after).await.contains(ADA));
        assert_opens_nothing(&visitor.without_a_browser(&before).await);
        visitor.go("/").await;
        assert_eq!(visitor.name().await.as_deref(), Some(ADA));
    })
    .await;
}

async fn two_tabs_fill_one_cart_at_the_same_moment_and_lose_nothing(world: World) {
    visit(world, async |visitor| {
        visitor.add("rooibos").await;
        let first = visitor.client.window().await.unwrap();
        let second = visitor.client.new_window(true).await.unwrap().handle;
        let tabs = [(&first, "sencha"), (&second, "assam")];
        let mut expected =
            BTreeMap::from([("rooibos".to_owned(), 1), ("sencha".to_owned(), 0), ("assam".to_owned(), 0)]);

        for signed_in in [false, true] {
            visitor.client.switch_to_window(first.clone()).await.unwrap();
            if signed_in {
                visitor.sign_in(ADA).await;
            }
            for _ in 0..rounds(125) {
                for (tab, tea) in tabs {
                    visitor.client.switch_to_window(tab.clone()).await.unwrap();
                    visitor.go("/cart").await;
                    visitor.client.execute(WAIT_FOR_THE_SIGN, vec![json!(tea), json!(AT_ONCE)]).await.unwrap();
                }
                visitor.script(GIVE_THE_SIGN).await;
                for (tab, tea) in tabs {
                    visitor.client.switch_to_window(tab.clone()).await.unwrap();
                    eventually("every request of this tab is answered", async || {
                        !visitor.script("return kept").await.is_null()
                    })
                    .await;
                    assert_eq!(visitor.script("return kept").await, AT_ONCE, "all that {tea} was added is kept");
                    *expected.get_mut(tea).unwrap() += AT_ONCE;
                }
                assert_eq!(visitor.cart().await, expected);
            }
        }

        // And what the page itself offers to show.
        visitor.press("#tabs button").await;
        eventually("the page tells what became of it", async || {
            visitor.text("#told").await.is_some_and(|told| told == "20 accepted. The cart grew by 20.")
        })
        .await;
    })
    .await;
}

/// Browsers keep six connections to a server: so none of these waits for another.
const AT_ONCE: u64 = 3;

/// A tab in the background is not given every turn of the clock, but hears at once what another one says.
const WAIT_FOR_THE_SIGN: &str = r#"
    const [tea, times] = arguments
    const csrf = document.querySelector("[name=csrf]")?.value ?? ""
    const add = () => fetch("/cart", { method: "POST", body: new URLSearchParams({ csrf, tea }), redirect: "manual" })
    window.kept = null
    window.sign = new BroadcastChannel("sign")
    sign.onmessage = async () => {
        const answers = await Promise.all(Array.from({ length: times }, add))
        window.kept = answers.filter((answer) => answer.type === "opaqueredirect").length
    }
"#;

const GIVE_THE_SIGN: &str = r#"new BroadcastChannel("sign").postMessage("")"#;

async fn a_tab_from_before_the_login_is_refused_and_does_no_harm(world: World) {
    visit(world, async |visitor| {
        visitor.add("sencha").await;
        let first = visitor.client.window().await.unwrap();
        let second = visitor.client.new_window(true).await.unwrap().handle;
        visitor.client.switch_to_window(second.clone()).await.unwrap();
        visitor.go("/").await;
        visitor.client.switch_to_window(first).await.unwrap();
        visitor.sign_in(ADA).await;
        let cookie = visitor.cookie().await.expect("a session");

        visitor.client.switch_to_window(second).await.unwrap();
        visitor.press("#assam button").await;
        visitor.sees("h1", "Forbidden").await;
        assert!(visitor.cookie().await.expect("a session").value() == cookie.value(), "the new cookie is left alone");
        assert_eq!(visitor.cart().await, BTreeMap::from([("sencha".to_owned(), 1)]));
        // The page as it is now does as it is told.
        visitor.add("assam").await;
        assert_eq!(visitor.cart().await.get("assam"), Some(&1));
    })
    .await;
}

async fn after_signing_out_neither_the_back_button_nor_an_old_cookie_opens_anything(world: World) {
    visit(world, async |visitor| {
        visitor.add("sencha").await;
        let before_login = visitor.cookie().await.expect("a session");
        visitor.sign_in(ADA).await;
        let signed_in = visitor.cookie().await.expect("a session");
        assert!(visitor.without_a_browser(&signed_in).await.contains(ADA), "it does open the session while that lives");
        let handle = visitor.handle().await;
        visitor.go("/cart").await;

        visitor.press("form[action='/sign-out'] button").await;
        visitor.sees("#session form button", "Sign in").await;
        assert!(visitor.cookie().await.is_none(), "the cookie is removed");

        for _ in 0..4 {
            visitor.client.back().await.unwrap();
            // It may come from the network, or from wherever browsers keep pages.
            visitor.sees("#session form button", "Sign in").await;
            let page = visitor.client.source().await.unwrap();
            assert!(!page.contains(ADA) && !page.contains(&handle), "the back button shows {page}");
        }

        for cookie in [before_login, signed_in] {
            assert_opens_nothing(&visitor.without_a_browser(&cookie).await);
            // Back in the jar, as if the browser had never been told.
            visitor.client.add_cookie(cookie.clone()).await.unwrap();
            visitor.go("/cart").await;
            let page = visitor.client.source().await.unwrap();
            assert!(!page.contains(ADA) && !page.contains(&handle), "an old cookie shows {page}");
            let kept = visitor.cookie().await.expect("nobody but a logout removes a cookie");
            assert!(kept.value() == cookie.value());
        }
    })
    .await;
}

/// Has one visitor in a browser of their own do this in a shop of their own, where there is a browser.
async fn visit(world: World, story: impl AsyncFnOnce(&Visitor)) {
    let Some(chromium) = Chromium::start().await else { return };
    let shop = Shop::open(&world.server).await;
    let told = timeout(VISIT, async {
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(chromium.capabilities())
            .connect(chromium.webdriver())
            .await
            .expect("chromedriver commands the browser");
        let visitor = Visitor { client, shop: shop.url().to_owned() };
        story(&visitor).await;
        visitor.client.close().await.expect("the visit ends");
    });
    assert!(told.await.is_ok(), "the visit takes over {VISIT:?}\n{}\n{}", shop.log(), chromium.log());
    chromium.close().await;
}

struct Visitor {
    client: Client,
    shop: String,
}

impl Visitor {
    async fn go(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.shop)).await.expect("the page loads");
    }

    async fn press(&self, what: &str) {
        self.client.find(Locator::Css(what)).await.expect("it is there").click().await.expect("it can be pressed");
    }

    /// The text of what is there now.
    async fn text(&self, what: &str) -> Option<String> {
        // In one step: what was found may be gone before it is asked.
        let text =
            self.client.execute("return document.querySelector(arguments[0])?.textContent", vec![json!(what)]).await;
        // Between two pages there is nothing to ask.
        text.ok()?.as_str().map(str::to_owned)
    }

    async fn sees(&self, what: &str, text: &str) {
        eventually(&format!("{what} says {text}"), async || self.text(what).await.as_deref() == Some(text)).await;
    }

    async fn script(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.expect("the script runs")
    }

    /// Puts one in, as a person does.
    async fn add(&self, tea: &str) {
        self.go("/").await;
        let count: u32 = self.text("#count").await.expect("a count").parse().expect("a number");
        self.press(&format!("#{tea} button")).await;
        self.sees("#count", &(count + 1).to_string()).await;
    }

    /// Signs in, as a person does.
    async fn sign_in(&self, name: &str) {
        self.go("/").await;
        self.client
            .find(Locator::Id("your-name"))
            .await
            .expect("a form")
            .send_keys(name)
            .await
            .expect("it takes a name");
        self.press("form[action='/sign-in'] button").await;
        self.sees("#name", name).await;
    }

    async fn name(&self) -> Option<String> {
        self.text("#name").await
    }

    async fn handle(&self) -> String {
        self.text("#handle").await.expect("a session")
    }

    /// How many of each tea there are, by the cart page.
    async fn cart(&self) -> BTreeMap<String, u64> {
        self.go("/cart").await;
        let rows = self
            .script(
                "return [...document.querySelectorAll('#cart [data-tea]')].map((row) => \
                 [row.dataset.tea, Number(row.querySelector('.count').textContent.slice(2))])",
            )
            .await;
        serde_json::from_value(rows)
            .map(|rows: Vec<(String, u64)>| rows.into_iter().collect())
            .expect("names and numbers")
    }

    /// The session's cookie, as the browser keeps it. Its value is as secret here as anywhere.
    async fn cookie(&self) -> Option<Cookie<'static>> {
        match self.client.get_named_cookie("__Host-id").await {
            Ok(cookie) => Some(cookie),
            Err(error) if error.is_no_such_cookie() => None,
            Err(error) => panic!("the cookie cannot be had: {error}"),
        }
    }

    /// The whole answer to whoever sends this cookie for the cart page.
    async fn without_a_browser(&self, cookie: &Cookie<'_>) -> String {
        let address = self.shop.strip_prefix("http://").expect("a URL");
        let mut socket = TcpStream::connect(address).await.expect("the shop is open");
        let (name, value) = cookie.name_value();
        let request =
            format!("GET /cart HTTP/1.1\r\nHost: {address}\r\nCookie: {name}={value}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("it listens");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        answer
    }
}

/// Nothing of anybody's, and no word about the cookie: whoever sends an old one may hold a new one.
fn assert_opens_nothing(answer: &str) {
    assert!(answer.contains("There is none."), "{answer}");
    assert!(!answer.contains(ADA) && !answer.to_ascii_lowercase().contains("\r\nset-cookie:"), "{answer}");
}

fn assert_is_safe(cookie: &Cookie<'_>) {
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.secure(), Some(true));
    assert_eq!(cookie.same_site().map(|same_site| same_site.to_string()).as_deref(), Some("Lax"));
    assert_eq!(cookie.path(), Some("/"));
}
