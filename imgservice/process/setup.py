"""What one reading of the configuration came to, and where it comes from."""

import socket
from typing import Protocol

import attrs

from imgservice.config.sections import Config
from imgservice.process.addresses import Address
from imgservice.process.tls.material import TlsMaterial


@attrs.frozen
class Setup:
    """One reading of the configuration; it may travel to other processes."""

    config: Config
    addresses: tuple[Address, ...]
    tls: TlsMaterial | None = attrs.field(repr=False)
    generation: int = 1
    """How many readings there were."""


class Source(Protocol):
    """Where configuration, keys and sockets come from, at the start and at a reload."""

    def read(self, generation: int) -> Setup:
        """Read everything; `ConfigError` has a line, with its place, for each mistake.

        Whether the values can be used is for the caller to find out.
        """

    def bind(
        self, address: Address, count: int, is_divided: bool, present: socket.socket | None
    ) -> list[socket.socket]:
        """Make sockets, of which there may be one; `ConfigError` when they cannot be had."""

    def signature(self, config: Config) -> object:
        """Return what differs when the files of TLS have changed."""

    def read_tls(self, config: Config) -> TlsMaterial:
        """Read the files of TLS; `ListenError` when they cannot be used."""
