"""Dagster's web server behind a check of the requests' hosts: `python -m speed_assets.orchestration.ui_webserver`.

The UI has no login, so any page that a browser shows could use it: a page whose name resolves to loopback reads its answers (DNS
rebinding), and a page of another site sends it commands. Both name their own site in `Host` or `Origin`, and are refused. An
image or frame of another site names no `Origin`: browsers say where it is from in `Sec-Fetch-Site`, and a GraphQL request in
an address, which Dagster would run with its mutations, is refused from anywhere.

Belongs here: which requests reach the server. Not here: starting and ending it (`ui_server.py`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

HOSTS_VARIABLE = "SPEED_UI_HOSTS"
"""Variable with further host names under which the UI may be reached, separated by commas: those of a proxy before it."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_SITE = frozenset({b"same-origin", b"none"})
"""`Sec-Fetch-Site` of requests that the UI's own pages or the user's address bar send."""

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def allowed_hosts(environment: MutableMapping[str, str] | None = None) -> frozenset[str]:
    """Host names of requests that are served."""
    more = (os.environ if environment is None else environment).get(HOSTS_VARIABLE, "")
    return LOOPBACK | {name.casefold() for name in more.replace(",", " ").split()}


class HostCheck:
    """ASGI middleware that refuses a request whose `Host`, or whose `Origin` where it has one, is not allowed.

    Also refused: what a page of another site loads (but for a link that the user follows), and GraphQL in an address.

    Args:
        app: The application behind it.
        hosts: Host names that are allowed, without port, in lower case.
    """

    def __init__(self, app: _App, hosts: Iterable[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass the request on, or answer it with status 400 or the end of the websocket."""
        if scope["type"] not in ("http", "websocket") or self._is_allowed(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            words = (
                f"this request is not allowed: use 127.0.0.1, or name its host in {HOSTS_VARIABLE}; send GraphQL by POST\n"
            ).encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(words)).encode())]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": words})

    def _is_allowed(self, scope: _Message) -> bool:
        named = [(name.lower(), value) for name, value in scope["headers"]]
        hosts = [_host(f"//{value.decode('latin-1')}") for name, value in named if name == b"host"]
        origins = [_host(value.decode("latin-1")) for name, value in named if name == b"origin"]
        known = len(hosts) == 1 and all(host in self._hosts for host in [*hosts, *origins])
        return known and _is_own(named) and not _is_graphql_in_address(scope)


def _is_own(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request is not what a page of another site loads; browsers say so, other clients say nothing."""
    said = dict(headers)
    followed = said.get(b"sec-fetch-mode") == b"navigate" and said.get(b"sec-fetch-dest") == b"document"
    return followed or said.get(b"sec-fetch-site", b"none") in _OWN_SITE


def _is_graphql_in_address(scope: _Message) -> bool:
    """Whether a GET request holds a GraphQL request, which the UI itself sends by POST."""
    if scope["type"] != "http" or scope.get("method") == "POST":
        return False
    return str(scope.get("path", "")).rstrip("/").endswith("/graphql") and "query" in parse_qs(
        scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True
    )


def _host(address: str) -> str | None:
    """The host name of an address, without its port; None where there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def main() -> None:
    """Serve as `dagster-webserver` does, with the same arguments."""
    from dagster_webserver import app, cli
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    class GuardedWebserver(DagsterWebserver):  # type: ignore[type-arg]
        @override
        def build_middleware(self) -> list[Middleware]:
            return [Middleware(HostCheck, hosts=allowed_hosts()), *super().build_middleware()]

    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined,misc]
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
