"""Read the configuration and the keys, and bind sockets, at the start and at a reload."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imgservice.config.errors import ConfigError, OptionError
from imgservice.config.loader import load, located
from imgservice.config.sections import Config
from imgservice.process.addresses import Address, ListenError, bind, copies
from imgservice.process.setup import Setup
from imgservice.process.tls.files import read_material, signature
from imgservice.process.tls.material import TlsMaterial
from imgservice.wiring.listen import addresses, tls_material


class Files:
    """A source that does everything with the rights of this process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self, generation: int) -> Setup:
        return read_setup(self._path, generation)

    def bind(
        self, address: Address, count: int, is_divided: bool, present: socket.socket | None
    ) -> list[socket.socket]:
        if present is not None and not address.is_divisible:
            return copies(present.dup(), count)
        return bind_placed(self._path, address, count, is_divided, port_of(present))

    def signature(self, config: Config) -> object:
        return signature(config.server.tls) if config.server.tls else None

    def read_tls(self, config: Config) -> TlsMaterial:
        assert config.server.tls is not None  # noqa: S101
        return read_material(config.server.tls)


def read_setup(path: Path | None, generation: int) -> Setup:
    """Read the file, and the keys that it names; `ConfigError` tells each mistake and its place."""
    with placed(path):
        config = load(path)
        return Setup(config, addresses(config), tls_material(config), generation)


def read_addresses(path: Path) -> Sequence[Address]:
    """Read where the service listens, and no keys; `ConfigError` as above."""
    with placed(path):
        return addresses(load(path))


def bind_placed(
    path: Path | None, address: Address, count: int, is_divided: bool, port: int | None
) -> list[socket.socket]:
    """Like `bind`, but `ConfigError` tells what is wrong, with its place in the file."""
    with placed(path):
        try:
            return bind(address, count, is_divided, port)
        except ListenError as error:
            raise OptionError(("server", "listen", address.position), str(error)) from None


@contextmanager
def placed(path: Path | None) -> Iterator[None]:
    """Add to the mistakes that the block finds where in the file they are."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(located(path, error)) from error


def port_of(present: socket.socket | None) -> int | None:
    """Return the port of a socket that is one of ours."""
    return None if present is None else present.getsockname()[1]
