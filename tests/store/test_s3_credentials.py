"""Where a store of type s3 gets its keys, if the configuration has none; and its options."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor

from imgservice.concurrency.memory import SharedMemory
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import ConfigError
from imgservice.config.loader import load
from imgservice.store.interface import StoreUnavailable
from imgservice.store.s3.address import Address
from imgservice.store.s3.config import S3Config
from imgservice.store.s3.store import S3Store
from tests import swift
from tests.origin import Origin, origin

reactor = cast(Any, installed_reactor)
NAME = "AWS_CONTAINER_CREDENTIALS_FULL_URI"


@pytest.fixture
def service() -> Iterator[Origin]:
    """What answers as the credentials service of a container, or the metadata of an instance."""
    with origin() as started:
        yield started


@pytest_twisted.async_yield_fixture
async def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[S3Store]:
    """A store without keys, in an environment without any."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", NAME):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    threads = Threads(reactor, 2, "store")
    server = swift.shared()
    config = S3Config(host=server.url, bucket=server.container())
    made = S3Store("away", config, threads, reactor, SharedMemory(1 << 24))
    yield made
    await made.close()
    threads.stop()


def document(minutes: int = 60, secret: str = swift.KEY, **more: str) -> bytes:
    """Return what both services answer, with keys that are good for so long."""
    end = datetime.now(UTC) + timedelta(minutes=minutes)
    keys = {"AccessKeyId": swift.USER, "SecretAccessKey": secret, "Token": "a-token"}
    return json.dumps({**keys, "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"), **more}).encode()


@pytest_twisted.ensureDeferred
async def test_none(store: S3Store) -> None:
    told: list[str] = []
    store.tell = told.append
    with pytest.raises(StoreUnavailable, match="no credentials found"):
        await store.check()
    with pytest.raises(StoreUnavailable, match="has no credentials"):
        await store.discard("1")
    assert told == ["no credentials found in the environment, shared files or metadata"]


@pytest_twisted.ensureDeferred
async def test_the_environment(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift.USER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift.KEY)
    await store.check()


@pytest_twisted.ensureDeferred
async def test_a_profile_of_shared_files(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "images")
    (tmp_path / "credentials").write_text(
        f"[images]\naws_access_key_id = {swift.USER}\naws_secret_access_key = {swift.KEY}\n"
    )
    (tmp_path / "config").write_text("[profile images]\nregion = us-east-1\n")
    await store.check()
    (tmp_path / "config").write_text("[profile images]\nregion = eu-north-1\n")
    await store.check()  # the region was read once


@pytest_twisted.ensureDeferred
async def test_a_container(
    store: S3Store, service: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, service.put("/credentials", document()))
    await store.check()
    await store.check()
    assert [one.path for one in service.asked] == ["/credentials"]


@pytest_twisted.ensureDeferred
async def test_an_instance(
    store: S3Store, service: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By version 2 of its protocol, which needs a token for each question."""
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url(""))
    roles = "/latest/meta-data/iam/security-credentials/"
    service.put("/latest/api/token", b"session")
    service.put(roles, b"images")
    service.put(f"{roles}images", document(Code="Success"))
    await store.check()
    assert [(one.method, one.path) for one in service.asked] == [
        ("PUT", "/latest/api/token"),
        ("GET", roles),
        ("GET", f"{roles}images"),
    ]
    sent = {name.lower(): value for name, value in service.asked[-1].headers.items()}
    assert sent["x-aws-ec2-metadata-token"] == "session"


@pytest_twisted.ensureDeferred
async def test_keys_that_end_soon_are_renewed(
    store: S3Store, service: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once when they are over; before that, no more than once a minute."""
    monkeypatch.setenv(NAME, service.put("/credentials", document(minutes=10)))
    await store.check()
    await store.check()
    assert len(service.asked) == 2
    found = cast(Any, store)._bucket._credentials
    found._asked -= 61
    service.put("/credentials", document())
    await store.check()
    await store.check()
    assert len(service.asked) == 3


@pytest_twisted.ensureDeferred
async def test_keys_that_the_server_refuses_are_fetched_again_once(
    store: S3Store, service: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, service.put("/credentials", document(secret="of yesterday")))
    with pytest.raises(StoreUnavailable, match="403"):
        await store.probe(False)
    assert len(service.asked) == 2
    service.put("/credentials", document())
    await store.probe(False)
    assert len(service.asked) == 3


# -- options --------------------------------------------------------------------------------------

OPTIONS = "{type: s3, host: 'https://s3.example', bucket: images"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (", access_key: a", "stores.away.secret_key: access_key and secret_key belong together"),
        (", session_token: a", "stores.away.session_token: needs access_key and secret_key"),
        (", legacy_uri: true", "stores.away.legacy_uri: needs access_key and secret_key"),
        (", host: s3.example", "stores.away.host: expected a URL such as"),
        (", host: 'https://AKIA:hush@s3.example'", "stores.away.host: expected a URL without"),
        (", host: 'https://s3.example:x'", "stores.away.host: "),
        (", bucket: 'a/b'", "stores.away.bucket: is no name of a bucket"),
        (", bucket: a_b, addressing: virtual", "stores.away.addressing: virtual needs a bucket"),
        (", part_size: 4MiB", "stores.away.part_size: must be at least"),
        (", connections: 0", "stores.away.connections: must be at least 1"),
        (", ca_file: /nowhere", "stores.away: /nowhere: cannot be read"),
        (", checksums: {request: never}", "stores.away.checksums.request: expected one of"),
    ],
)
def test_mistakes(tmp_path: Path, more: str, message: str) -> None:
    path = tmp_path / "imgservice.yaml"
    text = OPTIONS
    for key in ("host", "bucket"):
        if f" {key}:" in more:
            text = ", ".join(one for one in text.split(", ") if not one.startswith(f"{key}:"))
    path.write_text(f"stores: {{away: {text}{more}}}}}\ndefault_store: away\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "hush" not in str(caught.value)


LOADED = """
import sys
from pathlib import Path
{before}
from imgservice.config.loader import load
from imgservice.wiring.trial import try_build
try_build(load(Path({path!r})))
assert "botocore" not in sys.modules
"""


def test_botocore_is_only_loaded_for_such_a_store(tmp_path: Path) -> None:
    path = tmp_path / "imgservice.yaml"
    path.write_text("stores: {local: {type: file, path: images}}\n")
    command = [sys.executable, "-c", LOADED.format(before="", path=str(path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_error_for_a_missing_library_names_the_extra(tmp_path: Path) -> None:
    path = tmp_path / "imgservice.yaml"
    path.write_text(f"stores: {{away: {OPTIONS}}}}}\ndefault_store: away\n")
    before = "sys.modules['botocore'] = None"
    command = [sys.executable, "-c", LOADED.format(before=before, path=str(path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    reason = "stores.away: the type s3 needs botocore: pip install 'imgservice[s3]'"
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("host", "bucket", "addressing", "url", "region"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "b-1", "auto",
         "https://b-1.s3.eu-west-1.amazonaws.com/k", "eu-west-1"),
        ("https://s3-eu-west-1.amazonaws.com/", "b.1", "auto",
         "https://s3-eu-west-1.amazonaws.com/b.1/k", "eu-west-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "b-1", "path",
         "https://s3.cn-north-1.amazonaws.com.cn/b-1/k", "cn-north-1"),
        ("https://s3.amazonaws.com", "b-1", "virtual", "https://b-1.s3.amazonaws.com/k", None),
        ("http://[2001:db8::1]:9000", "b_1", "auto", "http://[2001:db8::1]:9000/b_1/k", None),
        ("https://gw.example/s3/", "b-1", "auto", "https://gw.example/s3/b-1/k", None),
        ("https://GW.example:443", "b-1", "virtual", "https://b-1.GW.example:443/k", None),
    ],
)  # fmt: skip
def test_addresses(host: str, bucket: str, addressing: Any, url: str, region: str | None) -> None:
    address = S3Config(host=host, bucket=bucket, addressing=addressing).address
    assert address.request_url("k") == url
    assert address.region == region
    assert address.key(address.object_url("k")) == "k"
    assert address.key(address.object_url("k", "AKIA:se/cr@et")) == "k"
    assert "//k" not in address.request_url("", "uploads=")


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ("https://s3.example", "s3+https://S3.example:443/images/k"),
        ("https://s3.example:443", "s3+https://s3.example/images/k"),
        ("http://s3.example", "s3://s3.example:80/images/k"),
    ],
)
def test_the_usual_port_may_be_written_or_not(own: str, theirs: str) -> None:
    address: Callable[[str], str | None] = Address.of(own, "images", False).key
    assert address(theirs) == "k"
    assert address(theirs.lower().replace("s3.example", "other")) is None
