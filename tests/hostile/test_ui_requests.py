"""Which requests reach the UI, which has no login: those of its own pages and of the user, from no other site.

Belongs here: the check before Dagster's web server. Not here: starting and ending the UI (`tests/faults/test_interrupts.py`).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest


def answer(scope: dict[str, Any], headers: dict[str, str]) -> list[Any]:
    """What the check sends, or `served` where it passes the request on."""
    from speed_assets.orchestration.ui_webserver import HostCheck, allowed_hosts

    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "served"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    check = HostCheck(app, allowed_hosts({"SPEED_UI_HOSTS": "x.example, UI.example.org"}))
    asyncio.run(check({**scope, "headers": [(n.encode(), v.encode()) for n, v in headers.items()]}, receive, send))
    return sent


@pytest.mark.parametrize(
    ("headers", "served"),
    [({"host": "127.0.0.1:3000"}, True), ({"host": "localhost"}, True), ({"host": "[::1]:3000"}, True), ({"host": "ui.Example.org"}, True),
     ({"host": "127.0.0.1", "origin": "http://localhost:3000"}, True), ({"host": "evil.example"}, False), ({}, False),
     ({"host": "127.0.0.1.evil.example"}, False), ({"host": "127.0.0.1@evil.example"}, False), ({"host": "[x"}, False), ({"host": ""}, False),
     ({"host": "127.0.0.1", "origin": "http://evil.example"}, False), ({"host": "127.0.0.1", "origin": "null"}, False),
     ({"host": "127.0.0.1", "Host": "evil.example"}, False), ({"host": "é"}, False)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_ui_answers_its_own_hosts_alone(headers: dict[str, str], served: bool, kind: str) -> None:
    sent = answer({"type": kind}, headers)
    refused = "websocket.close" if kind == "websocket" else "http.response.start"
    assert sent[0]["type"] == ("served" if served else refused)
    assert served or kind == "websocket" or sent[0]["status"] == 400


def browser(site: str, mode: str, dest: str) -> dict[str, str]:
    """What browsers say of a request; a `GET` of an image, a frame or a script has no `Origin`."""
    return {"host": "127.0.0.1:3000", "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}


@pytest.mark.parametrize(
    ("headers", "served"),
    [(browser("same-origin", "cors", "empty"), True), (browser("none", "navigate", "document"), True),
     (browser("cross-site", "navigate", "document"), True), (browser("same-origin", "navigate", "iframe"), True),
     (browser("cross-site", "no-cors", "image"), False), (browser("cross-site", "no-cors", "script"), False),
     (browser("cross-site", "navigate", "iframe"), False), (browser("same-site", "no-cors", "image"), False),
     (browser("same-site", "navigate", "iframe"), False), (browser("cross-site", "no-cors", "empty"), False),
     (browser("", "", ""), False)],
    ids=lambda value: "-".join(list(value.values())[1:]) if isinstance(value, dict) else str(value),
)  # fmt: skip
def test_pages_of_other_sites_load_nothing(headers: dict[str, str], served: bool) -> None:
    sent = answer({"type": "http", "method": "GET", "path": "/", "query_string": b""}, headers)
    assert (sent[0]["type"] == "served") is served


@pytest.mark.parametrize(
    ("method", "path", "query", "served"),
    [("GET", "/graphql", b"query=mutation%7Ba%7D", False), ("GET", "/graphql", b"%71uery=mutation", False),
     ("GET", "/graphql/", b"a=b&query=", False), ("GET", "/prefix/graphql", b"query=x", False), ("HEAD", "/graphql", b"query=x", False),
     ("GET", "/graphql", b"", True), ("POST", "/graphql", b"query=x", True), ("GET", "/runs", b"query=x", True)],
)  # fmt: skip
def test_no_address_runs_a_mutation(method: str, path: str, query: bytes, served: bool) -> None:
    """`<img src="http://127.0.0.1:3000/graphql?query=mutation...">` on any page would start a run that costs money."""
    sent = answer({"type": "http", "method": method, "path": path, "query_string": query}, {"host": "localhost:3000"})
    assert (sent[0]["type"] == "served") is served


def test_dagsters_server_runs_no_mutation_from_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dagster as dg
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import EmptyWorkspaceTarget
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.testclient import TestClient

    from speed_assets.orchestration.ui_webserver import HostCheck, allowed_hosts

    (tmp_path / "dagster.yaml").write_text("")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with WorkspaceProcessContext(dg.DagsterInstance.get(), EmptyWorkspaceTarget()) as context:
        served = HostCheck(DagsterWebserver(context).create_asgi_app(), allowed_hosts({}))
        with TestClient(served, base_url="http://127.0.0.1:3000") as client:
            image = {
                "accept": "image/*",
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "no-cors",
                "sec-fetch-dest": "image",
            }
            for headers in (image, {"accept": "*/*"}):
                refused = client.get("/graphql", params={"query": "mutation{setNuxSeen}"}, headers=headers)
                assert refused.status_code == 400
            assert client.post("/graphql", json={"query": "{version}"}).json().keys() == {"data"}


def test_the_web_server_of_the_ui_checks_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster starts its services in the way that `ui_services` changes, and builds its application from a class of that name."""
    import inspect

    import dagster_webserver.app
    from dagster._cli import dev
    from dagster_webserver.webserver import DagsterWebserver

    from speed_assets.orchestration import ui_services

    assert '"-m", "dagster_webserver"' in inspect.getsource(dev.dev_command_impl)
    assert "return DagsterWebserver(" in inspect.getsource(
        dagster_webserver.app.create_app_from_workspace_process_context
    )
    assert hasattr(DagsterWebserver, "build_middleware")
    started: list[Any] = []
    monkeypatch.setattr(ui_services, "_start", lambda parts, **_options: started.append(parts))
    ui_services._start_guarded([sys.executable, "-m", "dagster_webserver", "--port", "1"])
    assert started == [[sys.executable, "-m", ui_services.WEBSERVER, "--port", "1"]]
