//! What it looks like. `maud` escapes whatever stands in parentheses: a name may be `<script>`.

use std::time::Duration;

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};
use sessiond_client::axum::{Session, SessionError};

use crate::Cart;

pub(crate) struct Tea {
    pub(crate) id: &'static str,
    name: &'static str,
    taste: &'static str,
}

const fn tea(id: &'static str, name: &'static str, taste: &'static str) -> Tea {
    Tea { id, name, taste }
}

pub(crate) const TEAS: [Tea; 6] = [
    tea("sencha", "Sencha", "Green and bright, like a lawn after rain"),
    tea("jasmine", "Jasmine", "Pale green, scented with the flowers of one night"),
    tea("oolong", "Oolong", "Half green, half black, roasted slowly"),
    tea("assam", "Assam", "Strong and malty, and it takes milk"),
    tea("rooibos", "Rooibos", "Red, sweet, and it lets you sleep"),
    tea("puerh", "Pu-erh", "Dark, earthy, and older than the other five"),
];

/// What the pages show of a visitor.
pub(crate) struct Visitor {
    name: Option<String>,
    cart: Cart,
    /// For the forms of whoever is signed in.
    csrf: Option<String>,
    session: Option<Facts>,
}

/// What there is to know about a session, for whoever it belongs to.
struct Facts {
    handle: String,
    age: Duration,
    rest: Duration,
}

impl Visitor {
    pub(crate) fn of(session: &Session) -> Result<Self, SessionError> {
        let name = session.subject();
        let csrf = name.is_some().then(|| session.csrf_token()).transpose()?;
        let facts = || {
            let (created, ends) = (session.create_time()?, session.expiry_date()?);
            let age = created.elapsed().unwrap_or_default();
            let rest = ends.duration_since(created).unwrap_or_default().saturating_sub(age);
            Some(Facts { handle: session.handle()?, age, rest })
        };
        Ok(Self { name, cart: session.get("cart")?.unwrap_or_default(), csrf, session: facts() })
    }
}

pub(crate) fn shop(visitor: &Visitor) -> Markup {
    layout(
        "Shop",
        Some(visitor),
        html! {
            h1 { "Six good teas" }
            p.lead { "One cart, however many tabs you fill it from. Open a second one and try." }
            ul.teas {
                @for tea in &TEAS {
                    li.tea id=(tea.id) {
                        span.cup .(tea.id) {}
                        h2 { (tea.name) }
                        p { (tea.taste) }
                        (button(visitor, "/cart", Some(tea), html! { "Add" span.hidden { " " (tea.name) " to the cart" } }))
                    }
                }
            }
        },
    )
}

pub(crate) fn cart(visitor: &Visitor) -> Markup {
    let known = |id: &str| TEAS.iter().find(|tea| tea.id == id);
    let rows = || visitor.cart.iter().filter_map(|(id, count)| Some((known(id)?, count)));
    layout(
        "Cart",
        Some(visitor),
        html! {
            h1 { "Your cart" }
            #cart {
                @if visitor.cart.is_empty() {
                    p.lead { "Nothing in it yet. " a href="/" { "Choose a tea" } "." }
                } @else {
                    ul.rows {
                        @for (tea, count) in rows() {
                            li data-tea=(tea.id) {
                                span.cup .(tea.id) {}
                                b { (tea.name) }
                                span.count { "× " (count) }
                                (button(visitor, "/cart/remove", Some(tea), html! { "Remove" span.hidden { " " (tea.name) } }))
                            }
                        }
                    }
                }
            }
            section.tabs {
                h2 { "Two tabs at once" }
                @if visitor.session.is_some() {
                    p { "Twenty requests at once, ten as each of two tabs would send them. All add to the same cart, and none is lost." }
                    form #tabs {
                        (token(visitor))
                        @for (name, tea) in [("First tab", &TEAS[0]), ("Second tab", &TEAS[3])] {
                            p.tab data-tea=(tea.id) {
                                span { (name) ", " (tea.name) }
                                span.dots { @for _ in 0..10 { i {} } }
                            }
                        }
                        button { "Fill it from two tabs" }
                        output #told { noscript { "This button needs JavaScript." } }
                    }
                } @else {
                    p { "Tabs share a cart once you have a session: put something in, or sign in, and come back." }
                }
            }
        },
    )
}

/// The page in place of one that cannot be shown.
pub(crate) fn refusal(status: StatusCode, text: &str) -> Markup {
    let reason = status.canonical_reason().unwrap_or("Not this time");
    layout(
        reason,
        None,
        html! {
            h1 { (reason) }
            p.lead { (if text.trim().is_empty() { "There is nothing here." } else { text.trim() }) }
            p { a.button href="/" { "Back to the shop" } }
        },
    )
}

fn layout(title: &str, visitor: Option<&Visitor>, main: Markup) -> Markup {
    let count: u32 = visitor.map_or(0, |visitor| visitor.cart.values().sum());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Two Leaves" }
                link rel="icon" href="/leaf.svg";
                link rel="stylesheet" href="/shop.css";
                script src="/shop.js" type="module" {}
            }
            body {
                header {
                    a.brand href="/" { img src="/leaf.svg" alt="" width="28" height="28"; "Two Leaves" }
                    @if let Some(visitor) = visitor {
                        nav aria-label="Pages" {
                            a href="/" aria-current=[(title == "Shop").then_some("page")] { "Shop" }
                            a href="/cart" aria-current=[(title == "Cart").then_some("page")] { "Cart " span #count .badge { (count) } }
                        }
                        @if let Some(name) = &visitor.name { span #name .name { (name) } } @else { a.sign-in href="#session" { "Sign in" } }
                    }
                }
                div.page {
                    main { (main) }
                    @if let Some(visitor) = visitor { (session(visitor)) }
                }
                footer { p { "A demonstration of " a href="https://crates.io/crates/sessiond-client" { "sessiond-client" } " with axum. Nothing here is for sale." } }
            }
        }
    }
}

fn session(visitor: &Visitor) -> Markup {
    html! {
        aside #session aria-labelledby="your-session" {
            h2 #your-session { "Your session" }
            @if let Some(Facts { handle, age, rest }) = &visitor.session {
                dl {
                    dt { "Signed in as" }
                    dd { @if let Some(name) = &visitor.name { b { (name) } } @else { "nobody" } }
                    dt { "Age" }
                    dd { (span(*age)) }
                    dt { "Ends in" }
                    dd { (span(*rest)) small { "Unless you come back before." } }
                    dt { "Public name" }
                    dd { code #handle { (handle) } small { "Safe to show and to log: it opens nothing." } }
                }
            } @else {
                p { "There is none. You have only looked, so you were given no cookie, and nothing is stored about you." }
            }
            @if visitor.name.is_some() {
                (button(visitor, "/sign-out", None, html! { "Sign out" }))
                small { "Ends the session everywhere at once. An old cookie opens nothing." }
            } @else {
                form method="post" action="/sign-in" {
                    label for="your-name" { "Your name" }
                    div.line {
                        input #your-name name="name" required maxlength="40" autocomplete="username";
                        button { "Sign in" }
                    }
                    small { "No password: this is a demonstration. Your cart stays, your cookie becomes another one." }
                }
            }
        }
    }
}

/// A form that is only its button.
fn button(visitor: &Visitor, action: &str, tea: Option<&Tea>, label: Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            (token(visitor))
            @if let Some(tea) = tea { input type="hidden" name="tea" value=(tea.id); }
            button { (label) }
        }
    }
}

fn token(visitor: &Visitor) -> Markup {
    html! { @if let Some(csrf) = &visitor.csrf { input type="hidden" name="csrf" value=(csrf); } }
}

/// A span in its two largest units.
fn span(span: Duration) -> String {
    match span.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s @ 3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        s => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}
