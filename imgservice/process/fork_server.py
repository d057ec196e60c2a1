"""The fork server: a process that has imported the service, and forks children when it is told to.

A child is ready within milliseconds, where a new interpreter takes a second for its imports, and
shares the memory of the imported modules with its siblings. Whatever a process has when it forks,
the child has as well; so the fork server has no threads, no reactor, and no descriptors but the
standard ones and its control socket.

Its parent cannot wait for the children, which are not its own. It gets a pidfd of each, which tells
it when the child has exited, and then asks how.
"""

import atexit
import fcntl
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

from imgservice.process.messages import (
    LARGEST,
    MOST_DESCRIPTORS,
    Fork,
    Forked,
    FromForkServer,
    NotForked,
    Reap,
    Reaped,
    decode,
    encode,
)

WORKER, TRIAL = "worker", "trial"
"""The programs of children: the first of their arguments."""
STDERR = 2
CONTROL = 3
_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""Those that a whole process group may get: the parent acts on them, and closes the control socket
in the end."""


def ignore_group_signals() -> None:
    """Leave signals to the parent: call it as early as possible, for imports take a second."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def serve(control: socket.socket, run: Callable[[], int]) -> int:
    """Fork children, until the other end is closed; a child ends with the code of `run`."""
    gc.freeze()  # so that collections in a child leave the shared memory alone, and do not copy it
    control.setblocking(True)
    while True:
        data, descriptors = _receive(control)
        if not data:
            return 0
        message = decode(data)
        if isinstance(message, Fork) and _fork(control, message, descriptors):
            leave(run())
        if isinstance(message, Reap):
            code = os.waitstatus_to_exitcode(os.waitpid(message.pid, 0)[1])
            _send(control, Reaped(message.key, code))


def _receive(control: socket.socket) -> tuple[bytes, Sequence[int]]:
    """Return the next message; nothing when the parent is gone, whether it has read ours or not."""
    try:
        data, descriptors, _, _ = socket.recv_fds(control, LARGEST, MOST_DESCRIPTORS)
    except ConnectionResetError:
        return b"", []
    return data, descriptors


def _fork(control: socket.socket, message: Fork, descriptors: Sequence[int]) -> bool:
    """Fork; return True in the child."""
    if message.modules:
        _import(message.modules)
    try:
        pid = os.fork()
    except OSError as error:
        _send(control, NotForked(message.key, str(error.strerror)))
    else:
        if pid == 0:
            control.close()
            prepare_child(message, descriptors)
            return True
        pidfd = os.pidfd_open(pid)
        _send(control, Forked(message.key, pid), [pidfd])
        os.close(pidfd)
    for one in descriptors:
        os.close(one)
    return False


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        with suppress(Exception):  # whoever needs it will tell
            import_module(name)
    gc.freeze()


def prepare_child(message: Fork, descriptors: Sequence[int]) -> None:
    """Set what the child would have if its parent had started it; it has no reactor yet."""
    _place(descriptors, message.numbers)
    os.umask(message.umask)
    sys.argv = list(message.arguments)
    gc.enable()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def leave(code: int) -> NoReturn:
    """End as the interpreter does, but destroy no objects: that copies the shared memory."""
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _place(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Give each descriptor its number; one that is in the way is moved first."""
    above = max((*numbers, *descriptors), default=0) + 1
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, above) for one in descriptors]
    for one in descriptors:
        os.close(one)
    for one, number in zip(moved, numbers, strict=True):
        os.dup2(one, number, inheritable=number <= STDERR)
        os.close(one)


def _send(control: socket.socket, message: FromForkServer, descriptors: Sequence[int] = ()) -> None:
    with suppress(
        BrokenPipeError, ConnectionResetError
    ):  # the parent is gone, as reading will show
        socket.send_fds(control, [encode(message)], descriptors)
