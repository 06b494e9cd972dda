"""The tea shop of the Rust client's example, in Flask: sign in, fill the cart from two tabs at once, sign out.

    cargo run                                     # a sessiond on 127.0.0.1:50051
    python adapters/python/examples/shop.py       # this shop on 127.0.0.1:5000, or where LISTEN says

Beside it, the shop in Rust with the same sessions:

    SESSIOND_ADDRESS=127.0.0.1:50051 cargo run -p sessiond-client --example axum     # on 127.0.0.1:3000

Both have the cookie `__Host-id` and the same keys in the session, so a visitor who signs in at one is signed in at the other,
with one cart. (Cookies know no ports. Without https, browsers take a `Secure` one from the own machine only.) What it looks
like is in `templates/`, and in the Rust example's style sheet and script, which this one serves too.
"""

import os
from pathlib import Path

from flask import Flask, abort, redirect, render_template, request, send_from_directory, session
from sessiond.flask import SessiondInterface
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

SESSIOND = os.environ.get("SESSIOND_ADDRESS", "").strip() or "127.0.0.1:50051"
LOOKS = Path(__file__).resolve().parents[3] / "client" / "examples" / "axum"
TEAS = {
    "sencha": ("Sencha", "Green and bright, like a lawn after rain"),
    "jasmine": ("Jasmine", "Pale green, scented with the flowers of one night"),
    "oolong": ("Oolong", "Half green, half black, roasted slowly"),
    "assam": ("Assam", "Strong and malty, and it takes milk"),
    "rooibos": ("Rooibos", "Red, sweet, and it lets you sleep"),
    "puerh": ("Pu-erh", "Dark, earthy, and older than the other five"),
}

app = Flask(__name__, static_folder=None)
app.session_interface = SessiondInterface(SESSIOND)
# As the Rust client has it by default: the two shops must name and protect their cookie alike.
app.config.update(SESSION_COOKIE_NAME="__Host-id", SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")


@app.get("/")
def show_shop():
    return page("shop.html")


@app.get("/cart")
def show_cart():
    return page("cart.html")


@app.post("/cart")
def add():
    tea = request.form["tea"]
    if tea not in TEAS:
        abort(404, "We have no such tea.")
    # `session["cart"] = ...` would do for one tab. This is done again if the other one was faster, so that both count.
    session.update_key("cart", lambda cart: {**(cart or {}), tea: (cart or {}).get(tea, 0) + 1})
    return redirect(f"/#{tea}", 303)


@app.post("/cart/remove")
def remove():
    tea = request.form["tea"]
    session.update_key("cart", lambda cart: {id: count for id, count in (cart or {}).items() if id != tea})
    return redirect("/cart", 303)


@app.post("/sign-in")
def sign_in():
    # A demonstration: a shop of yours asks for a passkey here, and believes nobody before.
    name = request.form["name"].strip()[:40]
    if not name:
        abort(400, "Please tell us a name.")
    # The cart stays; the id in the cookie becomes another one.
    session.sign_in(name)
    return redirect("/", 303)


@app.post("/sign-out")
def sign_out():
    session.destroy()
    return redirect("/", 303)


@app.get("/<any('shop.css', 'shop.js', 'leaf.svg'):name>")
def look(name):
    return send_from_directory(LOOKS, name)


@app.before_request
def only_our_forms():
    """Refuses a form that another site sent in the visitor's name.

    Two lines of defence. The browser itself says where a request comes from. And whoever is signed in has a token in the
    session and in each form; nobody else needs one, so that who only looks is given neither session nor cookie.
    """
    if request.method != "POST":
        return
    if request.headers.get("Sec-Fetch-Site") != "same-origin":
        abort(403, "This form was not sent from a page of this shop.")
    if session.subject and not session.check_csrf(request.form.get("csrf")):
        abort(403, "This form is of another session. Please load its page again.")


def page(template):
    """A page, with what it shows of its visitor."""
    cart = {tea: count for tea, count in session.get("cart", {}).items() if tea in TEAS}
    csrf = session.csrf_token() if session.subject else None
    name, handle = session.subject, session.handle
    return render_template(template, teas=TEAS, name=name, cart=cart, csrf=csrf, handle=handle)


@app.errorhandler(HTTPException)
def refusal(error):
    """A page in place of one that cannot be shown. The error's own headers stay: Retry-After is one."""
    response = error.get_response()
    response.set_data(render_template("refusal.html", error=error))
    return response


@app.after_request
def guard(response):
    """What every response gets on its way out."""
    for name, value in {
        # Nothing from elsewhere, nothing inline, in nobody's frame.
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        # Pages show what is in a session: after signing out, the back button must find none of them.
        "Cache-Control": "no-store",
    }.items():
        response.headers[name] = value
    return response


if __name__ == "__main__":
    host, _, port = (os.environ.get("LISTEN", "").strip() or "127.0.0.1:5000").rpartition(":")
    server = make_server(host, int(port), app, threaded=True)
    print(f"The shop is open: http://{host}:{server.port}  (sessions: sessiond at {SESSIOND})", flush=True)
    server.serve_forever()
