"""Commands of the pages, forked from processes that have imported what they need.

Shells find small programs in place of `imgservice` and `openstack`. These pass on their arguments,
directory, environment and descriptors, and end as what was forked for them. Services are not
forked: they take the place of the shell that starts them, as the pages say.
"""

import ast
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imgservice.process.messages import LARGEST
from tests.real.warm import WarmProcess

BIN = Path(sys.executable).parent
PROGRAMS = ("imgservice", "openstack")
PROGRAM = """\
#!{python} -IS
import os, socket, sys
command = ["{program}", *sys.argv[1:]]
if command[1:2] == ["run"]:
    os.execv(command[0], command)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
    asking.connect("{address}")
    data = repr((command, os.getcwd(), dict(os.environ))).encode()
    socket.send_fds(asking, [data], [0, 1, 2])
    code = int(asking.recv(16))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def forking(folder: Path, name: str) -> Iterator[None]:
    """Make the programs, and fork what they ask for while the block runs."""
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        for each in PROGRAMS:
            program = folder / each
            program.write_text(
                PROGRAM.format(python=sys.executable, program=BIN / each, address=f"\\0{name}")
            )
            program.chmod(0o755)
        thread = threading.Thread(target=_accept, args=[listener])
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket) -> None:
    with suppress(OSError):  # when it is shut down
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_fork, args=[connection]).start()


def _fork(connection: socket.socket) -> None:
    with connection:
        data, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 3)
        command, folder, environment = ast.literal_eval(data.decode())
        process = WarmProcess(command, Path(folder), environment, descriptors)
        for one in descriptors:
            os.close(one)
        code = process.wait()
        with suppress(OSError):  # who has asked may have been killed
            connection.sendall(str(code).encode())
