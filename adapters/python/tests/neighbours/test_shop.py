"""The example shop, and the Rust client's beside it: one visitor walks between a Flask page and an axum page.

Both are run as their users run them, as processes, on one sessiond. One cookie, one cart, one name.
"""

import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import REPOSITORY, Process, binary
from visitor import Visitor

EXAMPLE = REPOSITORY / "adapters" / "python" / "examples" / "shop.py"


def opened(command, sessiond, folder):
    """A shop's process, and the port that it has told."""
    process = Process(command, folder, LISTEN="127.0.0.1:0", SESSIOND_ADDRESS=sessiond.address)
    process.port = int(process.must_tell(r"http://127\.0\.0\.1:(\d+)")[1])
    return process


@pytest.fixture(scope="module")
def shops(sessiond, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shops")
    axum = binary("SESSIOND_TEST_SHOP", "examples/axum")
    with opened([sys.executable, EXAMPLE], sessiond, folder) as flask, opened([axum], sessiond, folder) as axum:
        yield flask, axum


class Customer:
    """A visitor who goes from shop to shop with one cookie jar: cookies know no ports."""

    def __init__(self, *shops):
        self.jar = {}
        self.at = [Visitor(shop.port) for shop in shops]
        for visitor in self.at:
            visitor.cookies = self.jar

    def look(self, shop, path="/"):
        answer = self.at[shop].get(path)
        assert answer.status == 200, answer.text
        return answer

    def submit(self, shop, path, page="/", **fields):
        """Loads a page and sends a form with the token that it has for this visitor, if it has one."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.look(shop, page).text)
        if token:
            fields["csrf"] = token[1]
        answer = self.at[shop].post(path, fields, Sec_Fetch_Site="same-origin")
        assert answer.status == 303, answer.text
        return answer

    def name(self, shop):
        found = re.search(r'id="name"[^>]*>([^<]*)<', self.look(shop).text)
        return found and found[1]

    def cart(self, shop):
        rows = re.findall(r'data-tea="(\w+)">.*?× (\d+)', self.look(shop, "/cart").text, re.DOTALL)
        return {tea: int(count) for tea, count in rows}

    def handle(self, shop):
        return re.search(r'id="handle">([0-9a-f]{32})<', self.look(shop).text)[1]


FLASK, AXUM = 0, 1
BOTH = [FLASK, AXUM]


@pytest.fixture
def customer(shops):
    return Customer(*shops)


@pytest.mark.parametrize(("here", "there"), [(FLASK, AXUM), (AXUM, FLASK)], ids=["from Flask", "from axum"])
def test_who_signs_in_at_one_shop_is_signed_in_at_the_other_with_one_cart(customer, here, there):
    customer.submit(here, "/cart", tea="oolong")
    assert [customer.cart(shop) for shop in BOTH] == [{"oolong": 1}] * 2
    before = customer.jar["__Host-id"]
    customer.submit(there, "/sign-in", name="Ada")
    assert customer.jar["__Host-id"] != before
    assert [customer.name(shop) for shop in BOTH] == ["Ada", "Ada"]
    customer.submit(there, "/cart", tea="oolong")
    customer.submit(here, "/cart", tea="assam")
    assert [customer.cart(shop) for shop in BOTH] == [{"oolong": 2, "assam": 1}] * 2
    customer.submit(there, "/cart/remove", page="/cart", tea="oolong")
    assert [customer.cart(shop) for shop in BOTH] == [{"assam": 1}] * 2
    assert customer.handle(here) == customer.handle(there)


@pytest.mark.parametrize(("here", "there"), [(FLASK, AXUM), (AXUM, FLASK)], ids=["from Flask", "from axum"])
def test_who_signs_out_at_one_shop_is_signed_out_at_the_other(customer, here, there):
    customer.submit(here, "/sign-in", name="Ada")
    assert customer.name(there) == "Ada"
    kept = dict(customer.jar)
    customer.submit(there, "/sign-out")
    assert customer.jar == {}
    customer.jar.update(kept)
    assert [customer.name(shop) for shop in BOTH] == [None, None]


def test_both_shops_write_the_cookie_alike(customer):
    written = []
    for shop in BOTH:
        customer.jar.clear()
        (cookie,) = customer.submit(shop, "/sign-in", name="Ada").cookies
        name, *attributes = cookie.split("; ")
        assert name.startswith("__Host-id=")
        written.append(sorted(attributes))
    assert written[FLASK] == written[AXUM]


def test_who_only_looks_is_given_no_cookie(customer):
    for shop in BOTH:
        assert customer.look(shop).cookies == customer.look(shop, "/cart").cookies == []


def test_tabs_at_both_shops_at_once_fill_one_cart(customer, long):
    customer.submit(FLASK, "/sign-in", name="Ada")
    times = long(10, 200)
    pages = [customer.look(shop, "/cart").text for shop in BOTH]
    tokens = [re.search(r'name="csrf" value="([^"]+)"', page)[1] for page in pages]

    def add(number):
        shop = number % 2
        form = {"tea": "sencha", "csrf": tokens[shop]}
        return customer.at[shop].tab().post("/cart", form, Sec_Fetch_Site="same-origin").status

    with ThreadPoolExecutor(8) as tabs:
        assert set(tabs.map(add, range(2 * times))) == {303}
    assert [customer.cart(shop) for shop in BOTH] == [{"sencha": 2 * times}] * 2


def test_a_form_from_elsewhere_is_refused(customer):
    customer.submit(FLASK, "/sign-in", name="Ada")
    visitor = customer.at[FLASK]
    assert visitor.post("/cart", {"tea": "oolong"}, Sec_Fetch_Site="cross-site").status == 403
    assert visitor.post("/cart", {"tea": "oolong"}, Sec_Fetch_Site="same-origin").status == 403
    assert customer.cart(AXUM) == {}


def test_a_name_is_text_and_never_markup(customer):
    customer.submit(AXUM, "/sign-in", name="<script>alert(1)</script>")
    for shop in BOTH:
        assert "<script>alert" not in customer.look(shop).text


def test_in_an_outage_the_shop_says_so_on_a_page_of_its_own(own_sessiond, tmp_path):
    with opened([sys.executable, EXAMPLE], own_sessiond, tmp_path) as shop:
        customer = Customer(shop)
        customer.submit(FLASK, "/sign-in", name="Ada")
        own_sessiond.kill()
        answer = customer.at[FLASK].get("/")
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert answer.cookies == []
        assert "Back to the shop" in answer.text
        own_sessiond.start_again()
        assert customer.name(FLASK) == "Ada"
