"""Runs a Swift: its four servers in one process, on the four ports of the file server.json.

It belongs to the Python of .cache/swift-venv, and to `tests.swift`, which writes that file. Without
memcached: the servers share a dictionary, so a restart forgets all tokens. SIGUSR1 does that, too.
"""

import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import eventlet
from eventlet import wsgi

KINDS = ("proxy", "object", "container", "account")
HASHING = """
[swift-hash]
swift_hash_path_prefix = tests
swift_hash_path_suffix = tests
[storage-policy:0]
name = only
default = yes
[swift-constraints]
{constraints}
"""
COMMON = """
[DEFAULT]
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
disable_fallocate = true
bind_ip = 127.0.0.1
bind_port = {port}
log_level = ERROR
"""
BACKEND = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
BEFORE = ["catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "tempurl"]
BEHIND = ["copy", "slo", "dlo", "versioned_writes", "symlink"]
KEYSTONE = "keystonemiddleware.auth_token:filter_factory"
PROXY = """
[pipeline:main]
pipeline = {pipeline} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


class Memory:
    """What the servers need of memcached."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, **_: Any) -> Any:
        value, until = self.values.get(key, (None, 0.0))
        return value if until == 0 or time.time() < until else None

    def set(self, key: str, value: Any, time: float = 0, **_: Any) -> None:
        # As JSON, as memcached keeps it: what was a tuple comes back as a list.
        self.values[key] = (json.loads(json.dumps(value)), _moment(time))

    def delete(self, key: str, **_: Any) -> None:
        self.values.pop(key, None)

    def incr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        count = max(0, int(self.get(key) or 0) + delta)
        self.values[key] = (count, _moment(time))
        return count

    def decr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        return self.incr(key, -delta, time)


def _moment(seconds: float) -> float:
    return time.time() + seconds if seconds else 0.0


class WithMemory:
    """An application whose requests find the memory."""

    def __init__(self, application: Any, memory: Memory) -> None:
        self._application = application
        self._memory = memory

    def __call__(self, environ: Any, start_response: Any) -> Any:
        environ["swift.cache"] = self._memory
        return self._application(environ, start_response)


def write_files(directory: Path, options: Any) -> None:
    """Write the configuration of every server."""
    (directory / "devices" / "d1").mkdir(parents=True, exist_ok=True)
    (directory / "swift.conf").write_text(
        HASHING.format(constraints=_lines(options["constraints"]))
    )
    for kind, port in zip(KINDS, options["ports"], strict=True):
        body = _proxy(options) if kind == "proxy" else BACKEND.format(kind=kind)
        text = COMMON.format(directory=directory, port=port) + body
        (directory / f"{kind}-server.conf").write_text(text)


def _proxy(options: Any) -> str:
    pipeline = [*BEFORE, *options["auth"], *BEHIND]
    sections = [
        f"[filter:{name}]\n{_made_by(name)}\n{_lines(options['filters'].get(name, {}))}"
        for name in pipeline
    ]
    return PROXY.format(pipeline=" ".join(pipeline)) + "\n".join(sections)


def _made_by(name: str) -> str:
    if name == "authtoken":
        return f"paste.filter_factory = {KEYSTONE}"
    return f"use = egg:swift#{name}"


def _lines(options: Any) -> str:
    return "".join(f"{name} = {value}\n" for name, value in options.items())


def make_rings(directory: Path, ports: list[int]) -> None:
    """Write where the accounts, containers and objects are: all on the one device."""
    from swift.common.ring import RingBuilder

    for kind, port in zip(KINDS[1:], ports[1:], strict=True):
        builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
        address = {"ip": "127.0.0.1", "port": port}
        replication = {f"replication_{name}": value for name, value in address.items()}
        device = {"id": 0, "region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": ""}
        builder.add_dev({**device, **address, **replication})
        builder.rebalance()
        builder.get_ring().save(str(directory / f"{kind}.ring.gz"))


def serve(directory: Path, ports: list[int]) -> None:
    """Serve until the process is ended."""
    from swift.common.http_protocol import SwiftHttpProtocol
    from swift.common.wsgi import loadapp

    memory = Memory()
    log = logging.getLogger("requests")
    log.addHandler(logging.FileHandler(directory / "requests"))
    log.setLevel(logging.DEBUG)
    signal.signal(signal.SIGUSR1, lambda *_: memory.values.clear())
    threads = []
    for kind, port in zip(KINDS, ports, strict=True):
        application = loadapp(str(directory / f"{kind}-server.conf"), global_conf={})
        listening = eventlet.listen(("127.0.0.1", port), backlog=256)
        threads.append(
            eventlet.spawn(
                wsgi.server,
                listening,
                WithMemory(application, memory),
                log=log,
                log_output=kind == "proxy",
                log_format="%(status_code)s %(request_line)s",
                protocol=SwiftHttpProtocol,
                capitalize_response_headers=False,
                max_size=256,
            )
        )
    threads[0].wait()


def main(directory: Path) -> None:
    options = json.loads((directory / "server.json").read_text())
    write_files(directory, options)
    eventlet.hubs.use_hub("poll")
    eventlet.monkey_patch(socket=True, select=True, thread=True, time=True)
    from swift.common import constraints, utils

    # Swift looks for this one file only where the system has it.
    utils.SWIFT_CONF_FILE = constraints.SWIFT_CONF_FILE = str(directory / "swift.conf")
    constraints.reload_constraints()
    make_rings(directory, options["ports"])
    serve(directory, options["ports"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
