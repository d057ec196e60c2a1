"""Reports our state to systemd, by the protocol of sd_notify(3)."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

TIMEOUT = 2.0
"""Seconds to wait for systemd to read a message that must not be lost."""


class SystemdNotifier:
    """Sends to the socket that the environment names; does nothing where it names none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._timeout = 0.0
        owner = environment.get("WATCHDOG_PID")
        if owner is None or owner == str(os.getpid()):
            with suppress(ValueError):
                self._timeout = int(environment.get("WATCHDOG_USEC", "0")) / 1e6

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two signs of life, half of what systemd allows; None: it wants none."""
        return self._timeout / 2 if self._address and self._timeout > 0 else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={status}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reloading")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=finishing requests")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}", 0)

    def alive(self) -> None:
        """Give a sign of life, where systemd wants them."""
        if self.watchdog_interval is not None:
            self._send("WATCHDOG=1", 0)

    def extend(self, seconds: float) -> None:
        """Ask for more time, counted from now, for starting, reloading or stopping."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", 0)

    def _send(self, text: str, timeout: float = TIMEOUT) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(timeout)
            sender.sendto(text.encode(), self._address)
