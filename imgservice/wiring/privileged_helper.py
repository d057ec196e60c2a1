"""A small process that keeps the rights of root for a service that has given them up.

It does three things, and only what the configuration file says, which nobody else may be able to
write: it reads the file with the secrets and the keys that it names, it binds the addresses that it
lists, and it looks whether the files of TLS have changed. It listens to nobody but its parent.
"""

import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from imgservice.config.errors import ConfigError
from imgservice.config.loader import load
from imgservice.config.sections import Config
from imgservice.process.addresses import Address, ListenError, copies
from imgservice.process.control import (
    LARGEST,
    MOST_DESCRIPTORS,
    connection,
    hidden_file,
    read_hidden_file,
)
from imgservice.process.setup import Setup
from imgservice.process.tls import TlsMaterial, read_material, signature
from imgservice.wiring.load import bind_placed, port_of, read_setup

TIMEOUT = 30.0
"""Seconds that an answer may take."""


class PrivilegedHelper:
    """A source that asks a process of root's; it ends with us."""

    def __init__(self, path: Path) -> None:
        check_owner(path)
        self._path = path
        ours, theirs = connection()
        ours.settimeout(TIMEOUT)
        self._connection = ours
        end = str(theirs.fileno())
        command = [
            sys.executable,
            "-P",
            "-m",
            "imgservice.wiring.privileged_helper",
            str(path),
            end,
        ]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )

    def read(self, generation: int) -> Setup:
        found: Setup = self._asked("setup", generation=generation)
        return found

    def bind(
        self, address: Address, count: int, is_divided: bool, present: socket.socket | None
    ) -> list[socket.socket]:
        if not address.is_divisible and present is not None:
            return copies(present.dup(), count)
        if address.kind == "systemd":
            return bind_placed(self._path, address, count, is_divided, None)
        answer, descriptors = self._ask(
            "bind",
            description=address.description,
            count=count,
            is_divided=is_divided,
            port=port_of(present),
        )
        _raise_error(answer)
        return [socket.socket(fileno=one) for one in descriptors]

    def signature(self, config: Config) -> object:
        return self._asked("signature")

    def read_tls(self, config: Config) -> TlsMaterial:
        found: TlsMaterial = self._asked("tls")
        return found

    def _asked(self, what: str, **more: Any) -> Any:
        answer, descriptors = self._ask(what, **more)
        _raise_error(answer)
        # It comes from root, who could do to us whatever he likes in any case.
        return pickle.loads(read_hidden_file(descriptors[0]))  # noqa: S301

    def _ask(self, what: str, **more: Any) -> tuple[Mapping[str, Any], Sequence[int]]:
        try:
            self._connection.send(orjson.dumps({"ask": what, **more}))
            data, descriptors, _, _ = socket.recv_fds(
                self._connection, LARGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            data, descriptors, why = b"", [], error.strerror or str(error)
        else:
            why = "it has ended"
        if not data:
            raise ConfigError(f"the process that keeps root's rights does not answer: {why}")
        return orjson.loads(data), descriptors

    def close(self) -> None:
        """Let it end."""
        self._connection.close()


def _raise_error(answer: Mapping[str, Any]) -> None:
    kinds = {"config": ConfigError, "listen": ListenError}
    if "error" in answer:
        raise kinds[answer["kind"]](answer["error"])


def check_owner(path: Path) -> None:
    """See that nobody but root can write the file; `ConfigError` otherwise."""
    found = path.stat()
    if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{path}: must belong to root and be writable by nobody else, since it says what root"
            " reads and binds for a service that runs as another user"
        )


def main() -> None:
    """Answer the parent until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    path = Path(sys.argv[1])
    with socket.socket(fileno=int(sys.argv[2])) as parent:
        parent.setblocking(True)
        while data := parent.recv(LARGEST):
            answer, descriptors = _answer(path, orjson.loads(data))
            socket.send_fds(parent, [orjson.dumps(answer)], descriptors)
            for one in descriptors:
                os.close(one)


def _answer(path: Path, question: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[int]]:
    try:
        check_owner(path)
        if question["ask"] == "bind":
            return {}, [one.detach() for one in _bound(path, question)]
        return {}, [hidden_file(pickle.dumps(_found(path, question)))]
    except ConfigError as error:
        return {"kind": "config", "error": str(error)}, []
    except ListenError as error:
        return {"kind": "listen", "error": str(error)}, []
    except OSError as error:
        return {"kind": "config", "error": f"{path}: {error.strerror}"}, []


def _found(path: Path, question: Mapping[str, Any]) -> object:
    if question["ask"] == "setup":
        return read_setup(path, question["generation"])
    tls = load(path).server.tls
    if question["ask"] == "signature" or tls is None:
        return signature(tls) if tls else None
    return read_material(tls)


def _bound(path: Path, question: Mapping[str, Any]) -> list[socket.socket]:
    for address in read_setup(path, 0).addresses:
        if address.description == question["description"]:
            return bind_placed(
                path, address, question["count"], question["is_divided"], question["port"]
            )
    raise ListenError(f"{question['description']!r} is not in {path}")


if __name__ == "__main__":
    main()
