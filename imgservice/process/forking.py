"""The fork server and its children, as the parent of the workers sees them."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from imgservice.concurrency.reactor import Reactor
from imgservice.process.control import Control, connection
from imgservice.process.fork_server import CONTROL
from imgservice.process.messages import Fork, Forked, Message, NotForked, Reap, Reaped
from imgservice.process.umask import present_umask

PACKAGE = Path(__file__).parents[1]
FORK_TIME = 120.0
"""Seconds that it may take, with a new process and all of its imports, until a child is forked."""
MOST_MODULES = 500
"""Names that are sent with one message, whose size is limited."""
END_TIME = 5.0
"""Seconds that a fork server without children has to end."""
Ended = Callable[[str, int | None], None]
"""Called with the reason why a child has ended, and the signal that has ended it, if one has."""

_log = Logger()


@implementer(IReadDescriptor)
class Child:
    """A process that the fork server has forked, or is about to."""

    def __init__(self, reactor: Reactor, key: int, ended: Ended, server: "_Running"):
        self._reactor = reactor
        self.key = key
        self._ended = ended
        self._server = server
        self._pidfd: int | None = None
        self.pid = 0
        """0 until it is forked."""
        self.has_exited = False
        self._late = reactor.callLater(FORK_TIME, server.kill_unless_forked, self)

    def forked(self, pid: int, pidfd: int) -> None:
        if self._late.active():
            self._late.cancel()
        self.pid, self._pidfd = pid, pidfd
        self._reactor.addReader(self)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; SIGKILL goes to the fork server if it still has to fork or reap it."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
        elif number is signal.SIGKILL:
            self._server.kill()

    def end(self, why: str, by: int | None = None) -> None:
        """Tell that it has ended."""
        self._close()
        if self._late.active():
            self._late.cancel()
        self._ended(why, by)

    # -- IReadDescriptor: the pidfd can be read once the process has exited -----------------------

    def fileno(self) -> int:
        return -1 if self._pidfd is None else self._pidfd

    def logPrefix(self) -> str:
        return "child"

    def doRead(self) -> None:
        self._close()
        self.has_exited = True
        self._server.reap(self)

    def connectionLost(self, reason: Failure) -> None:
        self._close()

    def _close(self) -> None:
        if self._pidfd is not None:
            self._reactor.removeReader(self)
            os.close(self._pidfd)
            self._pidfd = None


class ForkServer:
    """Forks children; replaces the process that does so when it has died.

    Children go on when it dies. How one of them ends is then not known.
    """

    def __init__(self, reactor: Reactor, command: Sequence[str], not_for: Sequence[str]) -> None:
        """`not_for` are variables of the environment that it and its children do not get."""
        self._reactor = reactor
        self._command = command
        self._not_for = not_for
        self._modules: Sequence[str] = ()
        self._running: _Running | None = None
        self._former: set[_Running] = set()
        self._keys = 0

    def fork(self, arguments: Sequence[str], descriptors: Mapping[int, int], ended: Ended) -> Child:
        """Start a child that has these descriptors, by their numbers in the child.

        It does not share them: each may be closed when this returns.
        """
        self._leave_unfit()
        if self._running is None or self._running.has_ended:
            self._running = _Running(self._reactor, self._command, self._environment())
        self._keys += 1
        return self._running.fork(self._keys, arguments, descriptors, ended, self._modules)

    def share(self, modules: Iterable[str]) -> None:
        """Import these before the next child is forked; called in any thread."""
        self._modules = tuple(dict.fromkeys((*self._modules, *modules)))

    def _leave_unfit(self) -> None:
        """Leave a process that still has what we have given up since: rights, a terminal."""
        running = self._running
        if running is not None and running.circumstances != _circumstances():
            running.leave()
            self._running = None

    def renew(self) -> None:
        """Let a new process fork from now on, if the installed package has changed."""
        running = self._running
        if running is not None and running.stamp != package_stamp():
            _log.info("The installed package has changed: starting another fork server")
            self._former.add(running)
            running.ended.addCallback(lambda _: self._former.discard(running))
            running.leave()
            self._running = None

    async def stop(self) -> None:
        """End it, once all children have ended; kill it if it hangs."""
        for one in self._all():
            one.leave()
            late = self._reactor.callLater(END_TIME, one.kill)
            await one.ended
            if late.active():
                late.cancel()

    def kill(self) -> None:
        for one in self._all():
            one.kill()

    def _all(self) -> Sequence["_Running"]:
        return [*self._former, *([self._running] if self._running is not None else [])]

    def _environment(self) -> Mapping[str, str]:
        return {name: value for name, value in os.environ.items() if name not in self._not_for}


class _Running(ProcessProtocol):
    """One process that forks, from its start to its end."""

    def __init__(
        self, reactor: Reactor, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.stamp = package_stamp()
        self.circumstances = _circumstances()
        self._reactor = reactor
        self._children: dict[int, Child] = {}
        self._imported: set[str] = set()
        self._is_leaving = False
        self.has_ended = False
        self.ended: Deferred[None] = Deferred()
        ours, theirs = connection()
        with theirs:
            descriptors = {0: 0, 1: 1, 2: 2, CONTROL: theirs.fileno()}
            self._process = reactor.spawnProcess(
                self, sys.executable, list(command), env=environment, childFDs=descriptors
            )
        self.pid = self._process.pid
        self._control = Control(reactor, ours, self._received, lambda: None)

    def fork(
        self,
        key: int,
        arguments: Sequence[str],
        descriptors: Mapping[int, int],
        ended: Ended,
        modules: Sequence[str],
    ) -> Child:
        child = self._children[key] = Child(self._reactor, key, ended, self)
        more = [name for name in modules if name not in self._imported][:MOST_MODULES]
        self._imported.update(more)
        message = Fork(key, list(descriptors), arguments, present_umask(), more)
        self._control.send(message, [os.dup(one) for one in descriptors.values()])
        return child

    def _received(self, message: Message, descriptors: Sequence[int]) -> None:
        match message:
            case Forked():
                self._children[message.key].forked(message.pid, descriptors[0])
            case NotForked():
                self._end(message.key, f"it could not be forked: {message.why}")
            case Reaped():
                self._end(message.key, *_how(message.code))

    def _end(self, key: int, why: str, by: int | None = None) -> None:
        self._children.pop(key).end(why, by)
        self._close_if_done()

    def reap(self, child: Child) -> None:
        """Find out how a child has ended that has exited."""
        if self.has_ended:
            self._end(child.key, "it ended (how is not known: the fork server had ended before it)")
        else:
            self._control.send(Reap(child.key, child.pid))

    def leave(self) -> None:
        """End the process as soon as it has no child any more."""
        self._is_leaving = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_leaving and not self._children:
            self._control.close()

    def kill_unless_forked(self, child: Child) -> None:
        self._control.doRead()  # this process may be the one that was late
        if not child.pid and child.key in self._children:
            self.kill()

    def kill(self) -> None:
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(signal.SIGKILL)

    def processEnded(self, reason: Failure) -> None:
        self._control.doRead()  # its last messages may not be read yet
        self._control.close()
        self.has_ended = True
        if not self._is_leaving:
            _log.error("The fork server, process {pid}, has ended; workers go on", pid=self.pid)
        for child in list(self._children.values()):
            if child.has_exited or not child.pid:
                self._end(child.key, "the fork server ended")
        self.ended.callback(None)


def _circumstances() -> object:
    """Return what a child gets from the process that forks it, and this process may change.

    A daemon changes its session, and there are options for the user and the directories.
    """
    folders = [Path(path).stat() for path in ("/", ".")]
    places = [(folder.st_dev, folder.st_ino) for folder in folders]
    return os.getsid(0), os.getresuid(), os.getresgid(), os.getgroups(), places


def _how(code: int) -> tuple[str, int | None]:
    if code < 0:
        return f"it was ended by {_signal_name(-code)}", -code
    return (f"it ended with exit code {code}" if code else "it ended"), None


def _signal_name(number: int) -> str:
    names = {one.value: one.name for one in signal.Signals}
    return names.get(number, f"signal {number}")  # most real-time signals have no name


def package_stamp() -> object:
    """Return what differs after the package, or a package beside it, was installed anew."""
    folders = [Path(each) for each in sys.path if each.endswith("-packages")]
    paths = [*PACKAGE.rglob("*.py"), *folders]
    return frozenset((path, path.stat().st_mtime_ns) for path in paths if path.exists())
