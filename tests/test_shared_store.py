"""A store that homes share: what one seals the other finds, whole or not at all, whatever breaks on the way."""

from __future__ import annotations

import errno
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.store import bucket
from resources.store.artifacts import Artifacts
from resources.store.manifests import MANIFEST_FILE, integrity_problem, manifest_text, read_manifest
from resources.store.shared_store import SharedStore
from resources.store.store import UNHASHED_DIR, Store, StoreError
from tests.support.servers import S3, S3_SECRET
from tests.support.shared_homes import FINGERPRINT, contents, machine, make, objects
from tests.support.tiny import tiny_recipe


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "WAIT_S", 0.001)


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shared store, named in the environment."""
    if request.param == "s3":
        return request.getfixturevalue("s3_url")
    (tmp_path / "shared store").mkdir()
    url = {"file": f"file://{tmp_path}/shared store", "memory": f"memory://{uuid.uuid4().hex}"}[request.param]
    monkeypatch.setenv("SPEED_STORE_URL", url)
    return url


@pytest.fixture
def s3_url(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    url = s3_server.new_bucket()
    monkeypatch.setenv("SPEED_STORE_URL", url)
    yield url
    s3_server.fault = lambda _method, _path: None


def test_what_one_home_seals_another_finds_whole(url: str, tmp_path: Path) -> None:
    made = make(machine(tmp_path / "a"))
    other = machine(tmp_path / "b")
    assert other.fetch("topics", "e" * 64) is None
    said = other.peek("topics", FINGERPRINT)
    assert said is not None
    assert (said.digest, said.metadata) == (made.digest, {"note": "fast"})
    assert not (tmp_path / "b" / "artifacts" / "topics").exists(), "a look fetches no file"
    found = other.fetch("topics", FINGERPRINT)
    assert found is not None
    assert contents(found.path) == contents(made.path)
    assert integrity_problem(found.path) is None
    assert [path.name for path in (tmp_path / "b" / "work").iterdir() if path.is_dir()] == []
    assert other.damage_reports == []


def test_manifests_are_those_of_the_home_and_of_the_others(url: str, tmp_path: Path) -> None:
    for number in range(3):
        make(machine(tmp_path / "a"), fingerprint=str(number) * 64, partition="sts" if number else None)
    here = machine(tmp_path / "b")
    make(here, fingerprint="9" * 64, partition="sts")
    assert here.fetch("topics", "1" * 64)
    assert sorted(m["fingerprint"][0] for m in here.manifests("topics", "sts")) == ["1", "2", "9"]
    assert [m["fingerprint"][0] for m in here.manifests("topics", None)] == ["0"]
    assert list(here.manifests("task_list", None)) == []


def test_a_flipped_byte_in_any_object_is_noticed_reported_and_replaced(url: str, tmp_path: Path) -> None:
    first = machine(tmp_path / "a")
    made = make(first)
    names = [name for name, size in objects(first).items() if size]
    assert len(names) == 4
    for number, name in enumerate(names):
        good = first.bucket.read(name)
        assert good is not None
        first.bucket.write(name, good[:2] + bytes([good[2] ^ 1]) + good[3:])
        second = machine(tmp_path / f"b{number}")
        assert second.fetch("topics", FINGERPRINT) is None
        assert len(second.damage_reports) == 1
        assert "in the shared store" in second.damage_reports[0]
        assert not second.folder("topics", FINGERPRINT).exists()
        assert second.fetch("topics", FINGERPRINT) is None
        assert len(second.damage_reports) == 1, "it is reported once"
        again = make(second, note=f"again {number}")
        assert again.digest == made.digest
        third = machine(tmp_path / f"c{number}").fetch("topics", FINGERPRINT)
        assert third is not None
        assert third.metadata == {"note": f"again {number}"}
        first.bucket.write(name, good)
        first.bucket.publish(("topics", FINGERPRINT[:24]), (made.path / MANIFEST_FILE).read_bytes())


def test_a_missing_object_is_damage_too(url: str, tmp_path: Path) -> None:
    first = machine(tmp_path / "a")
    make(first)
    name = next(name for name in objects(first) if name.endswith("data.parquet"))
    first.bucket._fs.rm_file(first.bucket._path(name))
    second = machine(tmp_path / "b")
    assert second.fetch("topics", FINGERPRINT) is None
    assert "data.parquet is missing in the shared store" in second.damage_reports[0]


def test_a_home_repairs_itself_from_the_shared_store(url: str, tmp_path: Path) -> None:
    made = make(machine(tmp_path / "a"))
    (made.path / "data.parquet").write_bytes(b"")
    store = machine(tmp_path / "a")
    found = store.fetch("topics", FINGERPRINT)
    assert found is not None
    assert found.table().height == 3
    assert "data.parquet" in store.damage_reports[0]


def test_two_that_make_the_same_at_once_never_mix(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has looked, found nothing, and has sent its files before either writes its manifest."""
    both = threading.Barrier(2)
    publish = bucket.Bucket.publish

    def together(self: Any, *arguments: Any) -> None:
        both.wait(20)
        publish(self, *arguments)

    monkeypatch.setattr(bucket.Bucket, "publish", together)
    notes = {name: f"made by {name}" * (1 + number) for number, name in enumerate("ab")}
    threads = [threading.Thread(target=make, args=(machine(tmp_path / name), note)) for name, note in notes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = machine(tmp_path / "c").fetch("topics", FINGERPRINT)
    assert found is not None
    assert (found.path / UNHASHED_DIR / "log").read_text() == found.metadata["note"]
    assert found.metadata["note"] in notes.values()


def test_the_second_to_come_leaves_what_is_there(url: str, tmp_path: Path) -> None:
    slow = machine(tmp_path / "b")
    assert slow.fetch("topics", FINGERPRINT) is None
    assert not slow.bucket.manifest_keys("topics")
    make(machine(tmp_path / "a"), note="first")
    before = objects(slow)
    make(slow, note="second")
    assert objects(slow) == before
    found = machine(tmp_path / "c").fetch("topics", FINGERPRINT)
    assert found is not None
    assert found.metadata["note"] == "first"


def test_an_interrupted_sending_is_finished_by_the_next(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = bucket.Bucket.upload
    sent: list[str] = []

    def cut(self: Any, file: Path, name: str) -> None:
        if len(sent) == 2:
            raise KeyboardInterrupt
        upload(self, file, name)
        sent.append(name)

    monkeypatch.setattr(bucket, "THREADS", 1)
    monkeypatch.setattr(bucket.Bucket, "upload", cut)
    with pytest.raises(KeyboardInterrupt):
        make(machine(tmp_path / "a"))
    assert machine(tmp_path / "b").fetch("topics", FINGERPRINT) is None, "files without a manifest are nothing"
    monkeypatch.setattr(bucket.Bucket, "upload", upload)
    store = machine(tmp_path / "a")
    artifact = store.fetch("topics", FINGERPRINT)
    assert artifact is not None
    store.share(artifact)
    assert 0 < store.bucket.traffic["up_bytes"] < sum(entry["bytes"] for entry in artifact.files.values())
    assert machine(tmp_path / "b").fetch("topics", FINGERPRINT)


def test_an_interrupted_fetching_resumes_where_it_was(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(machine(tmp_path / "a"))
    download = bucket.Bucket.download
    brought: list[str] = []

    def cut(self: Any, name: str, file: Path) -> None:
        if len(brought) == 2:
            file.write_bytes(b"half")
            raise KeyboardInterrupt
        download(self, name, file)
        brought.append(name)

    monkeypatch.setattr(bucket, "THREADS", 1)
    monkeypatch.setattr(bucket.Bucket, "download", cut)
    with pytest.raises(KeyboardInterrupt):
        machine(tmp_path / "b").fetch("topics", FINGERPRINT)
    assert not (tmp_path / "b" / "artifacts" / "topics").exists()
    first = list(brought)

    def counted(self: Any, name: str, file: Path) -> None:
        download(self, name, file)
        brought.append(name)

    monkeypatch.setattr(bucket.Bucket, "download", counted)
    assert machine(tmp_path / "b").fetch("topics", FINGERPRINT)
    assert len(brought) == 4
    assert not set(first) & set(brought[2:])


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/escaped", "a/../../b", "./a"])
def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("SPEED_STORE_URL", f"file://{tmp_path}/shared")
    first = machine(tmp_path / "a")
    manifest = read_manifest((make(first).path / MANIFEST_FILE).read_bytes())
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    del manifest["seal"]
    first.bucket.write(f"manifests/topics/{FINGERPRINT[:24]}.json", manifest_text(manifest))
    second = machine(tmp_path / "b")
    assert second.fetch("topics", FINGERPRINT) is None
    assert "below the artifact's folder" in second.damage_reports[0]
    assert not (tmp_path / "escaped").exists()


def test_what_checks_said_is_shared_and_belongs_to_the_bytes_they_saw(url: str, tmp_path: Path) -> None:
    first, second = (Artifacts(tiny_recipe(), machine(tmp_path / name)) for name in "ab")
    made = make(first.store)
    first.save_outcome(made, "not_empty", "key", {"passed": True})
    first.save_outcome(made, "another", "key", {"passed": False})
    found = second.store.fetch("topics", FINGERPRINT)
    assert found is not None
    said = second.load_outcome(found, "not_empty", "key")
    assert said is not None
    assert said["passed"]
    assert second.load_outcome(found, "not_empty", "other thresholds") is None
    assert second.load_outcome(found, "never asked", "key") is None
    third = Artifacts(tiny_recipe(), machine(tmp_path / "c"))
    with third.store.building(FINGERPRINT) as work:
        (work / "data.json").write_text("other bytes")
        other = third.store.seal("topics", FINGERPRINT, work, partition=None, metadata={}, lineage={})
    assert third.load_outcome(other, "not_empty", "key") is None, "a gate is not opened by other bytes"


def test_what_is_known_costs_no_request(s3_server: S3, s3_url: str, tmp_path: Path) -> None:
    fingerprints = [str(number) * 64 for number in range(10)]
    first = machine(tmp_path / "a")
    for fingerprint in fingerprints:
        make(first, fingerprint=fingerprint)

    def requests(store: SharedStore) -> int:
        before = len(s3_server.log)
        for fingerprint in fingerprints:
            artifact = store.fetch("topics", fingerprint)
            assert artifact is not None
            store.share(artifact)
        return len(s3_server.log) - before

    assert requests(first) == 0
    assert requests(machine(tmp_path / "a")) == 1, "one listing tells that all of them are shared"
    second = machine(tmp_path / "b")
    before = len(s3_server.log)
    for _ in range(3):
        assert sum(1 for _ in second.manifests("topics", None)) == len(fingerprints)
        assert all(second.peek("topics", fingerprint) for fingerprint in fingerprints)
    assert len(s3_server.log) - before == 3 + len(fingerprints)
    plain = len(s3_server.log)
    assert Store(tmp_path / "a").open().fetch("topics", fingerprints[0])
    assert len(s3_server.log) == plain


def test_errors_that_pass_are_waited_for(s3_server: S3, s3_url: str, tmp_path: Path) -> None:
    """Every object is refused twice, each in another way, and then taken."""
    seen: dict[tuple[str, str], int] = {}

    def fault(method: str, path: str) -> int | str | None:
        seen[method, path] = seen.get((method, path), 0) + 1
        return {1: 503, 2: "drop"}.get(seen[method, path])

    store = machine(tmp_path / "a")
    s3_server.fault = fault
    made = make(store)
    found = machine(tmp_path / "b").fetch("topics", FINGERPRINT)
    assert found is not None
    assert contents(found.path) == contents(made.path)


@pytest.mark.parametrize("fault", [503, "drop"])
def test_errors_that_stay_end_it_with_what_to_do(s3_server: S3, s3_url: str, tmp_path: Path, fault: int | str) -> None:
    store = machine(tmp_path / "a")
    s3_server.fault = lambda method, path: fault if method == "PUT" and path.endswith("weights") else None
    before = len(s3_server.log)
    with pytest.raises(StoreError, match=r"model/weights .*tried 6 times.*run again: what is made is kept"):
        make(store)
    tries = sum(path.endswith("weights") for _, path in s3_server.log[before:])
    assert tries in (bucket.ATTEMPTS, 2 * bucket.ATTEMPTS), "the client knocks twice at a closed connection"
    assert machine(tmp_path / "b").fetch("topics", FINGERPRINT) is None
    s3_server.fault = lambda _method, _path: None
    store = machine(tmp_path / "a")
    artifact = store.fetch("topics", FINGERPRINT)
    assert artifact is not None
    store.share(artifact)
    assert machine(tmp_path / "b").fetch("topics", FINGERPRINT)


def test_a_server_that_goes_down_in_the_middle_of_a_sending(s3_server: S3, s3_url: str, tmp_path: Path) -> None:
    store = machine(tmp_path / "a")
    down = threading.Event()

    def fault(method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith("weights") and not down.is_set():
            down.set()
            threading.Thread(target=s3_server.stop).start()
        return "drop" if down.is_set() else None

    s3_server.fault = fault
    with pytest.raises(StoreError, match="tried 6 times"):
        make(store)
    with pytest.raises(StoreError, match=r"speed-store\.json"):
        machine(tmp_path / "b")
    s3_server.fault = lambda _method, _path: None
    s3_server.start()
    assert make(machine(tmp_path / "b")).metadata
    assert machine(tmp_path / "c").fetch("topics", FINGERPRINT)


def test_a_server_that_stalls_is_asked_again(
    s3_server: S3, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.config import conf

    settings = {"config_kwargs": {"read_timeout": 0.5, "retries": {"total_max_attempts": 1}}}
    monkeypatch.setitem(conf, "s3", settings)  # as FSSPEC_S3_CONFIG_KWARGS gives them
    over = threading.Event()
    stalled: list[str] = []

    def fault(method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith("weights") and not stalled:
            stalled.append(path)
            over.wait(60)
            return "drop"
        return None

    store = machine(tmp_path / "a")
    s3_server.fault = fault
    try:
        make(store)
        assert stalled
        assert not over.is_set()
        assert machine(tmp_path / "b").fetch("topics", FINGERPRINT)
    finally:
        over.set()


def test_who_is_not_let_in_is_reported_at_once(s3_server: S3, s3_url: str, tmp_path: Path) -> None:
    s3_server.fault = lambda _method, _path: 403
    before = len(s3_server.log)
    with pytest.raises(StoreError, match="credentials in the environment") as caught:
        machine(tmp_path / "a")
    assert len(s3_server.log) == before + 1
    assert S3_SECRET not in str(caught.value)


def test_a_bucket_that_is_not_there_is_reported(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_STORE_URL", "s3://there-is-no-such-bucket/x")
    with pytest.raises(StoreError, match="create the bucket"):
        machine(tmp_path / "a")


def test_a_full_disk_is_reported_at_once(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine(tmp_path / "home")
    tried: list[str] = []

    def full(name: str, _file: str) -> None:
        tried.append(name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.bucket._fs, "get_file", full)
    with pytest.raises(StoreError, match=r"No space left on device.*make room"):
        store.bucket.download("speed-store.json", tmp_path / "fetched")
    assert len(tried) == 1
