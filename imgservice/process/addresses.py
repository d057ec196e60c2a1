"""Addresses to listen on: Twisted's endpoint strings, and the sockets bound there.

Twisted's own endpoints bind and listen in one step; here sockets outlive what listens on them.
"""

import contextlib
import grp
import os
import pwd
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Literal

import attrs
from twisted.internet.endpoints import quoteStringArgument
from twisted.plugins.twisted_core import systemdEndpointParser

Kind = Literal["tcp", "tcp6", "unix", "systemd"]
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "interface", "backlog"),
    "unix": ("address", "mode", "owner", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
"""The kinds, and the options of each; the first option needs no name."""
_FAMILIES = {"INET": socket.AF_INET, "INET6": socket.AF_INET6, "UNIX": socket.AF_UNIX}
_PROXIED = "haproxy:"
_HOST_AND_PORT = re.compile(
    r"((\[(?P<six>[^\[\]]*)\]|(?P<four>[0-9.]*\.[0-9.]*|localhost|\*|)):)?(?P<port>[0-9]+)(?P<more>:.*)?"
)
_SHORT = "a port, 127.0.0.1:9292 or [::1]:9292"
_ELSEWHERE = {"ssl": "set server.tls", "tls": "set server.tls", "fd": "use systemd:"}


class ListenError(Exception):
    """An address, or the TLS for it, cannot be used; the message says which and why."""


@attrs.frozen(kw_only=True)
class Address:
    """One address to listen on."""

    description: str
    """The endpoint string."""
    position: int = attrs.field(default=0, eq=False)
    """Its index in `server.listen`."""
    kind: Kind
    is_proxied: bool = False
    """Whether every connection begins with a line of the PROXY protocol."""
    host: str = ""
    """The interface; for a Unix socket its path."""
    port: int = 0
    backlog: int
    mode: int = 0o666
    owner: int = -1
    group: int = -1
    family: int = socket.AF_INET
    inherited: tuple[str, str] | None = None
    """Which of the sockets that systemd has made: `index` or `name`, and its value."""

    @property
    def is_divisible(self) -> bool:
        """Whether several processes can have a socket each (SO_REUSEPORT)."""
        return self.kind in ("tcp", "tcp6")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.family == socket.AF_UNIX:
            return True
        if self.kind != "systemd":
            return _is_loopback(self.host)
        try:
            with _adopted(self) as one:
                return _is_loopback(one.getsockname()[0])
        except OSError:
            return True  # there is no such socket, since the configuration is only checked


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def read_address(description: str, backlog: int, position: int = 0) -> Address:
    """Read an endpoint string such as "tcp:9292:interface=127.0.0.1", or a host and a port.

    `backlog` applies where the string names none. `ListenError` tells what is wrong.
    """
    try:
        return attrs.evolve(_read(description, backlog), position=position)
    except ValueError as error:
        raise ListenError(f"{description!r} is not an endpoint: {error}") from None


def _read(description: str, backlog: int) -> Address:
    is_proxied = description.startswith(_PROXIED)
    kind, *arguments = _split(_spelled_out(description.removeprefix(_PROXIED)))
    if kind not in _OPTIONS:
        hint = _ELSEWHERE.get(kind, f"the kinds are {', '.join(_OPTIONS)}; or write {_SHORT}")
        raise ValueError(f"unknown kind {kind!r}; {hint}")
    if kind in ("tcp", "tcp6"):
        arguments = _joined(arguments)
    options = _named(arguments, _OPTIONS[kind])
    readers = {"tcp": _tcp, "tcp6": _tcp, "unix": _unix, "systemd": _systemd}
    found = {
        "description": description,
        "kind": kind,
        "is_proxied": is_proxied,
        "backlog": _number(options, "backlog", backlog, 1, 1 << 31),
    }
    return Address(**found, **readers[kind](kind, options))  # type: ignore[arg-type]


def _spelled_out(description: str) -> str:
    """Return the endpoint string for a short form: [::1]:9292, 10.0.0.1:9292, 9292.

    Of host names only localhost is allowed: a misspelt kind would look like one.
    """
    matched = _HOST_AND_PORT.fullmatch(description)
    if matched is None:
        return description
    six, four, port, more = matched["six"], matched["four"], matched["port"], matched["more"] or ""
    if six is not None:
        return f"tcp6:{port}:interface={quoteStringArgument(six)}{more}"
    if four in ("", "*", None):
        return f"tcp:{port}{more}"
    return f"tcp:{port}:interface={four}{more}"


def _joined(arguments: list[str]) -> list[str]:
    """Join the parts of an IPv6 address whose colons were not escaped."""
    found: list[str] = []
    for one in arguments:
        if found and found[-1].startswith("interface=") and "=" not in one:
            found[-1] += f":{one}"
        else:
            found.append(one)
    return [re.sub(r"^(interface=)\[(.*)\]$", r"\1\2", one) for one in found]


def _split(description: str) -> list[str]:
    r"""Split at colons, but not at those written as `\:`."""
    parts = re.split(r"(?<!\\):", description)
    return [re.sub(r"\\(.)", r"\1", part) for part in parts]


def _named(arguments: list[str], names: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        name, is_named, value = argument.partition("=")
        if not is_named:
            if position:
                raise ValueError(f"expected NAME=VALUE, got {argument!r}")
            name, value = names[0], argument
        if name not in names:
            raise ValueError(f"unknown option {name!r} (known: {', '.join(names)})")
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def _number(
    options: Mapping[str, str], name: str, default: int | None, least: int, most: int
) -> int:
    text = options.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or not least <= int(text) < most:
        raise ValueError(f"expected a {name} from {least} to {most - 1}, got {text!r}")
    return int(text)


def _tcp(kind: str, options: Mapping[str, str]) -> dict[str, object]:
    family = socket.AF_INET if kind == "tcp" else socket.AF_INET6
    host = options.get("interface", "" if kind == "tcp" else "::")
    if host:
        _check_host(host, family)
    return {"host": host, "port": _number(options, "port", None, 0, 65536), "family": family}


def _check_host(host: str, family: int) -> None:
    if family == socket.AF_INET and ":" in host:
        raise ValueError(f"the interface {host!r} is an IPv6 address: write tcp6")
    try:
        socket.getaddrinfo(host, 0, socket.AddressFamily(family), socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"interface {host!r}: {getattr(error, 'strerror', error)}") from None


def _unix(_kind: str, options: Mapping[str, str]) -> dict[str, object]:
    if not options.get("address"):
        raise ValueError("expected the path of the socket")
    mode = options.get("mode", "666")
    if not re.fullmatch("0?[0-7]{3}", mode):
        raise ValueError(f"expected a mode such as 660, got {mode!r}")
    owner, group = _owner(options.get("owner", ""))
    return {
        "host": options["address"],
        "mode": int(mode, 8),
        "owner": owner,
        "group": group,
        "family": socket.AF_UNIX,
    }


def _owner(text: str) -> tuple[int, int]:
    """Read USER, USER.GROUP or .GROUP."""
    user, _, group = text.partition(".")
    try:
        uid = pwd.getpwnam(user).pw_uid if user else -1
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError as error:
        raise ValueError(f"owner {text!r}: {error.args[0]}") from None
    return uid, gid


def _systemd(_kind: str, options: Mapping[str, str]) -> dict[str, object]:
    domain = options.get("domain", "")
    if domain not in _FAMILIES:
        raise ValueError(f"expected a domain of {', '.join(_FAMILIES)}, got {domain!r}")
    if ("index" in options) == ("name" in options):
        raise ValueError("give either the index or the name of the socket")
    name, value = next(pair for pair in options.items() if pair[0] != "domain")
    if name == "index":
        _number(options, "index", None, 0, 1 << 16)
    return {"family": _FAMILIES[domain], "inherited": (name, value)}


# -- sockets --------------------------------------------------------------------------------------


def bind(address: Address, count: int, is_divided: bool, port: int | None) -> list[socket.socket]:
    """Make bound sockets, one for each of `count` processes; nobody listens yet.

    With `is_divided` each has a queue of its own, where the address allows for that; otherwise all
    are copies of one. `port` is the one that we already have at the same address.
    """
    try:
        if not address.is_divisible:
            one = _adopted(address) if address.kind == "systemd" else _bound_unix(address)
            return copies(one, count)
        if not is_divided:
            return copies(_bound_tcp(address, address.port, False), count)
        return _divided(address, count, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"cannot listen on {address.description}: {reason}") from None


def copies(one: socket.socket, count: int) -> list[socket.socket]:
    """Return the socket, and as many copies of it as make `count`."""
    return [one, *(one.dup() for _ in range(count - 1))]


def _divided(address: Address, count: int, port: int | None) -> list[socket.socket]:
    if port is None:
        # With SO_REUSEPORT the kernel lets us share the port with any process of the same user;
        # without it, it reports that the address is in use.
        with _bound_tcp(address, address.port, False) as probe:
            port = probe.getsockname()[1]
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(_bound_tcp(address, port, True))
    except OSError:
        for one in made:
            one.close()
        raise
    return made


def _bound_tcp(address: Address, port: int, is_shared: bool) -> socket.socket:
    made = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address.host, port))
    except BaseException:
        made.close()
        raise
    return made


def _adopted(address: Address) -> socket.socket:
    domain = next(name for name, family in _FAMILIES.items() if family == address.family)
    which = dict([address.inherited] if address.inherited else [])
    try:
        # Only Twisted knows what systemd gave: it removes that from the environment. Not by
        # serverFromString, which searches all plugins, and writes a cache of what it found.
        endpoint: Any = systemdEndpointParser.parseStreamServer(None, domain, **which)
    except (LookupError, ValueError):
        raise OSError(0, "systemd passed no such socket") from None
    made = socket.socket(fileno=os.dup(endpoint.fileno))
    if made.family != address.family or made.type != socket.SOCK_STREAM:
        made.close()
        raise OSError(0, "the socket that systemd passed has another domain or type")
    made.setblocking(False)
    return made


def _bound_unix(address: Address) -> socket.socket:
    _remove_stale(address.host)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _umask(0o177):  # nobody can connect before the mode and the owner are set
            made.bind(address.host)
        if (address.owner, address.group) != (-1, -1):
            os.chown(address.host, address.owner, address.group)
        os.chmod(address.host, address.mode)  # noqa: PTH101  a socket, not a file to be opened
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens, as a crash leaves behind."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108  as above


def keep_alive(made: socket.socket, idle: float) -> None:
    """Let TCP probe clients that were silent for `idle` seconds; connections inherit it."""
    if made.family != socket.AF_UNIX and idle:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(idle))


def release(address: Address, sockets: list[socket.socket]) -> None:
    """Close the sockets, and remove the path of a Unix socket that we made."""
    if address.kind == "unix":
        with contextlib.suppress(OSError):
            os.unlink(address.host)  # noqa: PTH108  as above
    for one in sockets:
        one.close()
