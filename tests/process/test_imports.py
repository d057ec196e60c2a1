"""What a process imports: a start takes as long as its imports, and memory holds them for good."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.process.observed import ObservedService, server_options
from tests.real.service import IMGSERVICE

LINE = "import time:"
"""How each line of `-X importtime` begins."""
SPECIAL = (
    "alembic", "oslo_policy", "oslo_utils", "psycopg", "pymysql", "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql", "sqlalchemy.orm", "imgservice.auth.keystone",
    "imgservice.glance_config", "imgservice.store.http", "imgservice.store.memory",
)  # fmt: skip
"""What no start needs with the default options."""
OF_PARENTS = ("imgservice.process.forking", "imgservice.process.workers")
SERVES = (
    "fastjsonschema", "klein", "sqlalchemy", "twisted.web", "werkzeug", "imgservice.api",
    "imgservice.db", "imgservice.http", "imgservice.jobs", "imgservice.policy",
    "imgservice.service", "imgservice.wiring.build",
)  # fmt: skip


def _imported(service: ObservedService) -> Sequence[str]:
    """Return what its processes have imported by now, without the targets of `import_module`."""
    lines = service.said.read_text().splitlines()
    return [line.rpartition("|")[2].strip() for line in lines if line.startswith(LINE)]


def _of(found: Sequence[str], unwanted: Sequence[str]) -> Sequence[str]:
    return [
        name for name in found if any(name == one or name.startswith(f"{one}.") for one in unwanted)
    ]


@pytest.mark.parametrize(("workers", "unwanted"), [(0, OF_PARENTS), (2, SERVES)])
def test_a_process_imports_no_more_than_it_needs(
    tmp_path: Path, workers: int, unwanted: Sequence[str]
) -> None:
    service = ObservedService(tmp_path, server_options(workers))
    service.command = (sys.executable, "-X", "importtime", IMGSERVICE, "run")
    service.make_tables()
    try:
        service.start()
        service.until(max(1, workers))
        service.signal(signal.SIGHUP)
        service.until(max(1, workers), 2)
        found = _imported(service)
        service.stop()
    finally:
        service.end()
    assert "imgservice.process.supervisor" in found
    assert _of(found, (*SPECIAL, *unwanted)) == []


@pytest.mark.parametrize("has_policy", [False, True], ids=["defaults", "policy"])
def test_neither_workers_nor_reloads_import_anything(tmp_path: Path, has_policy: bool) -> None:
    """With a policy file, a trial imports oslo.policy, and the fork server does so after it."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("get_images: role:reader\n")
    more = {"policy": {"file": str(policy)}} if has_policy else {}
    service = ObservedService(tmp_path, {**server_options(2), **more})
    service.is_cold, service.environment = True, {"PYTHONPROFILEIMPORTTIME": "1"}
    service.make_tables()
    try:
        service.start()
        service.until(2)
        before = _imported(service)
        service.signal(signal.SIGHUP)
        service.until(2, 2)
        service.client.active(b"some data")
        found = _imported(service)
        service.stop()
    finally:
        service.end()
    assert "oslo_utils.imageutils" in before
    assert ("oslo_policy._checks" in before) == has_policy
    assert found[len(before) :] == []
