"""Forks Glances, Keystones and `glance-manage` from a process that has imported one of the two.

Their interpreters run this file, which therefore needs nothing but the standard library:

    python -P tests/warm_openstack.py MODULE... DESCRIPTOR

The messages are those of `imgservice/process/messages.py`.
"""

import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
LARGEST = 1 << 20
MOST_DESCRIPTORS = 8


def _serve(module: str, threads: int) -> None:
    waitress: Any = import_module("waitress")
    application = import_module(module).application
    port = int(os.environ["PORT"])
    waitress.serve(application, host="127.0.0.1", port=port, threads=threads)


def _manage() -> None:
    sys.exit(import_module("glance.cmd.manage").main())


PROGRAMS: Mapping[str, Callable[[], None]] = {
    "glance-api": lambda: _serve("glance.wsgi.api", 4),
    "glance-manage": _manage,
    # With several threads it mixes up the callers.
    "keystone": lambda: _serve("keystone.wsgi.api", 1),
}


def main(*modules: str, descriptor: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.argv = sys.argv[:1]  # Keystone reads the command line of whoever imports it
    for name in modules:
        import_module(name)
    gc.freeze()
    control = socket.socket(fileno=descriptor)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, LARGEST, MOST_DESCRIPTORS)
        if not data:
            return
        kind, fields = json.loads(data)
        if kind == "Fork":
            _fork(control, fields, descriptors)
        else:
            code = os.waitstatus_to_exitcode(os.waitpid(fields["pid"], 0)[1])
            _send(control, ["Reaped", {"key": fields["key"], "code": code}])


def _fork(control: socket.socket, fields: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    pid = os.fork()
    if pid == 0:
        control.close()
        _run(fields, descriptors)
    pidfd = os.pidfd_open(pid)
    _send(control, ["Forked", {"key": fields["key"], "pid": pid}], [pidfd])
    for each in (pidfd, *descriptors):
        os.close(each)


def _send(control: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    socket.send_fds(control, [json.dumps(message).encode()], descriptors)


def _run(fields: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    code = 1
    try:
        _prepare(fields, descriptors)
        PROGRAMS[sys.argv[0]]()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare(fields: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Give the child what it would have if it had been started by itself."""
    *standard, place = descriptors
    for number, each in enumerate(standard):
        os.dup2(each, number)
        os.close(each)
    with os.fdopen(place) as file:
        folder, environment, _ = json.load(file)
    os.setsid()
    os.umask(fields["umask"])
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = fields["arguments"]
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    main(*sys.argv[1:-1], descriptor=int(sys.argv[-1]))
