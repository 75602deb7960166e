"""The address of a shared store: missing folders, credentials and unknown kinds are refused with what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from resources.store.shared_store import store_of
from resources.store.store import Store, StoreError
from tests.support.servers import S3_SECRET
from tests.support.shared_homes import machine


def test_a_folder_that_is_not_mounted_begins_no_store_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEED_STORE_URL", f"file://{tmp_path}/not mounted")
    with pytest.raises(StoreError, match="is not there: mount that folder, or create it once"):
        machine(tmp_path / "home")
    assert not (tmp_path / "not mounted").exists()


@pytest.mark.parametrize(
    "url",
    [f"s3://key:{S3_SECRET}@bucket/x", f"s3://bucket/x?secret={S3_SECRET}", f"simplecache::s3://k:{S3_SECRET}@b/x"],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEED_STORE_URL", url)
    with pytest.raises(StoreError, match="AWS_SECRET_ACCESS_KEY") as caught:
        store_of(tmp_path)
    assert S3_SECRET not in str(caught.value)


def test_what_is_missing_or_unknown_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_STORE_URL", "nonsense://x")
    with pytest.raises(StoreError, match="fsspec knows"):
        machine(tmp_path)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setenv("SPEED_STORE_URL", "s3://b/x")
    with pytest.raises(StoreError, match=r"pip install 'speed-assets\[s3\]'"):
        machine(tmp_path)


def test_secrets_are_taken_out_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    from resources.redaction import redacted_message

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    monkeypatch.setenv("SPEED_LEDGER_URL", "postgresql://me:pass-of-mine@h/d")
    words = redacted_message(RuntimeError(f"bad {S3_SECRET} and pass-of-mine\nmore"))
    assert words == "bad *** and ***"


def test_without_a_url_a_home_is_alone(tmp_path: Path) -> None:
    assert "SPEED_STORE_URL" not in os.environ
    assert type(store_of(tmp_path)) is Store
