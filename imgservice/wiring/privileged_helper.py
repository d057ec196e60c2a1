"""A small process that keeps root's rights for a service that has given them up.

It does three things, and only as the configuration file says, which nobody but root may be able to
write: it reads the file with the secrets and keys that it names, binds the addresses that it lists,
and tells whether the files of TLS have changed. It takes questions from its parent only.
"""

import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import attrs
import orjson

from imgservice.concurrency.file_watch import file_state
from imgservice.config.errors import ConfigError
from imgservice.config.loader import load
from imgservice.config.sections import Config
from imgservice.config.sections.server import TlsOptions
from imgservice.process.addresses import Address, ListenError, copies
from imgservice.process.control import connection, hidden_file, read_hidden_file
from imgservice.process.messages import LARGEST, MOST_DESCRIPTORS
from imgservice.process.setup import Setup
from imgservice.process.tls.files import read_material, signature
from imgservice.process.tls.material import TlsMaterial
from imgservice.wiring.load import bind_placed, port_of, read_addresses, read_setup

TIMEOUT = 30.0
"""Seconds that an answer may take."""


@attrs.frozen
class _Question:
    ask: Literal["setup", "signature", "tls", "bind"]
    generation: int = 0
    description: str = ""
    """Of the address to be bound."""
    count: int = 0
    is_divided: bool = False
    port: int | None = None


@attrs.frozen
class _Answer:
    """What was asked for comes along: sockets, or a file with what was read."""

    error: str | None = None
    is_about_listening: bool = False

    def check(self) -> None:
        if self.error is not None:
            raise (ListenError if self.is_about_listening else ConfigError)(self.error)


class PrivilegedHelper:
    """A source that asks a process with root's rights, which ends with us."""

    def __init__(self, path: Path) -> None:
        check_owner(path)
        self._path = path
        ours, theirs = connection()
        ours.settimeout(TIMEOUT)
        self._connection = ours
        module = "imgservice.wiring.privileged_helper"
        command = [sys.executable, "-P", "-m", module, str(path), str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )

    def read(self, generation: int) -> Setup:
        return cast(Setup, self._read(_Question("setup", generation=generation)))

    def bind(
        self, address: Address, count: int, is_divided: bool, present: socket.socket | None
    ) -> list[socket.socket]:
        if not address.is_divisible and present is not None:
            return copies(present.dup(), count)
        if address.kind == "systemd":
            return bind_placed(self._path, address, count, is_divided, None)
        question = _Question(
            "bind",
            description=address.description,
            count=count,
            is_divided=is_divided,
            port=port_of(present),
        )
        return [socket.socket(fileno=one) for one in self._ask(question)]

    def signature(self, config: Config) -> object:
        return self._read(_Question("signature"))

    def read_tls(self, config: Config) -> TlsMaterial:
        return cast(TlsMaterial, self._read(_Question("tls")))

    def _read(self, question: _Question) -> object:
        (descriptor,) = self._ask(question)
        # It comes from root, who could do anything to us in any case.
        return pickle.loads(read_hidden_file(descriptor))  # noqa: S301

    def _ask(self, question: _Question) -> Sequence[int]:
        """Return the descriptors that come with the answer; raise the error that it tells."""
        try:
            self._connection.send(orjson.dumps(attrs.asdict(question)))
            data, descriptors, _, _ = socket.recv_fds(
                self._connection, LARGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            data, descriptors, why = b"", [], error.strerror or str(error)
        else:
            why = "it has ended"
        if not data:
            raise ConfigError(f"the privileged helper does not answer: {why}; restart the service")
        _Answer(**orjson.loads(data)).check()
        return descriptors

    def close(self) -> None:
        """Let it end."""
        self._connection.close()


def check_owner(path: Path) -> None:
    """Raise `ConfigError` unless only root can write the file."""
    found = path.stat()
    if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{path}: must belong to root and be writable by nobody else, since it says what root"
            " reads and binds for a service that runs as another user"
        )


class _TlsFiles:
    """Knows which files of TLS the configuration names, and reads it again when it changes.

    The parent asks every second whether these files have changed, and waits for the answer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[object, TlsOptions | None] | None = None

    def options(self) -> TlsOptions | None:
        state = file_state(str(self._path))
        if self._read is None or self._read[0] != state:
            self._read = state, load(self._path).server.tls
        return self._read[1]


def main() -> None:
    """Answer the parent until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    path = Path(sys.argv[1])
    with socket.socket(fileno=int(sys.argv[2])) as parent:
        parent.setblocking(True)
        files = _TlsFiles(path)
        while data := parent.recv(LARGEST):
            answer, descriptors = _answer(path, files, _Question(**orjson.loads(data)))
            socket.send_fds(parent, [orjson.dumps(attrs.asdict(answer))], descriptors)
            for one in descriptors:
                os.close(one)


def _answer(path: Path, files: _TlsFiles, question: _Question) -> tuple[_Answer, list[int]]:
    try:
        check_owner(path)
        if question.ask == "bind":
            return _Answer(), [one.detach() for one in _bound(path, question)]
        return _Answer(), [hidden_file(pickle.dumps(_found(path, files, question)))]
    except ConfigError as error:
        return _Answer(str(error)), []
    except ListenError as error:
        return _Answer(str(error), is_about_listening=True), []
    except OSError as error:
        return _Answer(f"{path}: {error.strerror}"), []


def _found(path: Path, files: _TlsFiles, question: _Question) -> object:
    if question.ask == "setup":
        return read_setup(path, question.generation)
    tls = files.options()
    if question.ask == "signature" or tls is None:
        return signature(tls) if tls else None
    return read_material(tls)


def _bound(path: Path, question: _Question) -> list[socket.socket]:
    for address in read_addresses(path):
        if address.description == question.description:
            return bind_placed(path, address, question.count, question.is_divided, question.port)
    raise ListenError(f"{question.description!r} is not in {path}")


if __name__ == "__main__":
    main()
