"""A visitor of an application: sends requests over a connection of its own each, and keeps the cookies as a browser does."""

import http.client
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import urlencode


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def cookies(self):
        """All Set-Cookie headers; a test that counts them sees each."""
        return self.headers.get_all("Set-Cookie") or []


class Visitor:
    """Not a browser, but as careful: it takes every cookie, sends all it has, and forgets what was removed.

    Several threads may send with the same visitor, as several tabs do.
    """

    def __init__(self, port, cookies=()):
        self.port = port
        self.cookies = dict(cookies)

    def tab(self):
        """Another visitor with the same cookies as now, which from here on go their own way."""
        return Visitor(self.port, self.cookies)

    def get(self, path, **headers):
        return self.send("GET", path, None, headers)

    def post(self, path, form=(), **headers):
        return self.send("POST", path, urlencode(form), headers)

    def send(self, method, path, body, headers):
        sent = {"Connection": "close", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()
        for cookie in answer.cookies:
            self._keep(cookie)
        return answer

    def _keep(self, header):
        for name, morsel in SimpleCookie(header).items():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
