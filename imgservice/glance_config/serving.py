"""From Glance's addresses, flavor and filters to server, pipeline and auth."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from imgservice.config.sections import Config
from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.ini import Assignment
from imgservice.glance_config.keystone import GROUP, convert_keystone
from imgservice.glance_config.paste import STANDARD, Filter, Paste
from imgservice.glance_config.values import boolean, string, whole

_SILENT = frozenset(
    (
        "authtoken",
        "basic",
        "context",
        "unauthenticated-context",
        "cors",
        "healthcheck",
        "versionnegotiation",
        "http_proxy_to_wsgi",
        "request_id",
        "gzip",
        "osprofiler",
    )
)
"""Filters that we have something for, or need nothing for."""
_LATER = frozenset(("cache", "cachemanage"))
_GROUPS = {"authtoken": GROUP, "cors": "cors", "healthcheck": "healthcheck"}
"""The sections whose options a filter may have as its own."""
_NO_OPTIONS = ("oslo_config_project", "oslo_config_program", "delay_auth_decision")


def convert_listen(conversion: Conversion) -> None:
    given = conversion.given
    host = given.find("DEFAULT/bind_host", "DEFAULT/bind_address")
    port = given.find("DEFAULT/bind_port")
    address = conversion.read(host, string) or "0.0.0.0"
    number = conversion.read(port, whole(1, 65535)) or 9292
    if host is not None or port is not None:
        kind = "tcp6" if ":" in address else "tcp"
        escaped = address.replace("\\", r"\\").replace(":", r"\:")
        listen = f"{kind}:{number}:interface={escaped}"
        for one in (host, port):
            if one is not None:
                conversion.put("server.listen", [listen], one)
    else:
        conversion.document.say(
            "server",
            "Where Glance listens is not in its files: its WSGI server knows. Without"
            " server.listen it is 127.0.0.1:9292 here.",
        )
        conversion.notes.append("server.listen is not set: we listen on 127.0.0.1:9292")
    _convert_tls(conversion)
    _convert_proxies(conversion)


def _convert_tls(conversion: Conversion) -> None:
    found = {
        key: conversion.given.find(f"DEFAULT/{name}")
        for key, name in (
            ("certificate", "cert_file"),
            ("key", "key_file"),
            ("client_ca", "ca_file"),
        )
    }
    values = {key: conversion.read(one, string) for key, one in found.items()}
    lonely = found["certificate"] if values["certificate"] else found["key"]
    if lonely is not None and bool(values["certificate"]) != bool(values["key"]):
        conversion.wrong(lonely, "cert_file and key_file need each other")
    for key, one in found.items():
        if one is not None and values[key] and values["certificate"]:
            conversion.put(f"server.tls.{key}", values[key], one)
        elif one is not None:
            conversion.ignore(one, "has no effect without cert_file" if values[key] else "is empty")


def _convert_proxies(conversion: Conversion) -> None:
    one = conversion.given.find("oslo_middleware/enable_proxy_headers_parsing")
    if one is not None and conversion.read(one, boolean):
        reason = (
            "Glance accepts X-Forwarded-* headers from any client; list your proxies in"
            " server.trusted_proxies, or the headers are ignored here"
        )
        conversion.keep("server", [one], reason, matters=True)
    elif one is not None:
        conversion.ignore(one, "is the default here, too")


# -- the flavor -------------------------------------------------------------------------------


@attrs.frozen
class Chain:
    """The filters of the flavor, and what named it."""

    flavor: Assignment | None
    filters: Sequence[Filter]


def read_chain(conversion: Conversion, paste: Paste | None) -> Chain:
    one = conversion.given.find("paste_deploy/flavor")
    name = conversion.read(one, string) or ""
    if one is not None:
        conversion.converted.add(one)
    if paste is not None:
        filters = paste.filters(name)
        if filters is None:
            _wrong_flavor(conversion, one, "the paste file has no section for it")
        return Chain(one, filters or [])
    file = conversion.given.find("paste_deploy/config_file")
    if file is not None:
        conversion.keep("pipeline", [file], "this file was not read, give it as an argument")
    if name not in STANDARD:
        _wrong_flavor(conversion, one, "is not one of Glance's own: give the paste file, too")
    return Chain(one, [Filter(kind, kind) for kind in STANDARD.get(name, ())])


def _wrong_flavor(conversion: Conversion, one: Assignment | None, reason: str) -> None:
    if one is not None:
        conversion.wrong(one, f"the flavor {one.text!r}: {reason}")
    else:
        conversion.mistakes.append(f"[paste_deploy] flavor is not set: {reason}")


def filter_options(paste: Paste | None, flavor: str) -> Sequence[Assignment]:
    """Return the options of filters as if they stood in the sections for them.

    They are what holds, whatever the sections say.
    """
    filters = paste.filters(flavor) if paste is not None else None
    return [
        attrs.evolve(option, group=_GROUPS[one.kind])
        for one in filters or ()
        if one.kind in _GROUPS
        for option in one.options
        if option.name not in _NO_OPTIONS
    ]


def convert_chain(conversion: Conversion, chain: Chain) -> None:
    kinds = {one.kind for one in chain.filters}
    needed_by = chain.flavor if "authtoken" in kinds else None
    if "authtoken" in kinds:
        conversion.put("auth.mode", "keystone", chain.flavor)
    elif "basic" in kinds:
        _convert_basic(conversion, chain)
    elif not conversion.mistakes:
        _convert_nobody(conversion, chain)
    convert_keystone(conversion, needed_by)
    if "gzip" in kinds:
        steps = ["gzip", *Config().pipeline]
        conversion.put("pipeline", steps, chain.flavor, "with Glance's filter gzip")
    for one in chain.filters:
        if one.kind in _LATER:
            conversion.document.say("pipeline", f"Not supported yet: the filter {one.name}.")
        elif one.kind not in _SILENT:
            conversion.lose("pipeline", f"The filter {one.name} of Glance's pipeline is not known.")


def _convert_basic(conversion: Conversion, chain: Chain) -> None:
    [basic] = [one for one in chain.filters if one.kind == "basic"][:1]
    conversion.put("auth.mode", "basic", chain.flavor)
    own = next((one for one in basic.options if one.name == "http_basic_auth_user_file"), None)
    named = own or conversion.given.find("oslo_middleware/http_basic_auth_user_file")
    file = conversion.read(named, string) or "/etc/htpasswd"
    conversion.put("auth.basic.file", file, named)
    if not Path(file).is_file():
        conversion.notes.append(f"{file} is not there; the service does not start without it")


def _convert_nobody(conversion: Conversion, chain: Chain) -> None:
    conversion.put("auth.mode", "none", chain.flavor)
    conversion.lose(
        "auth",
        "Glance authenticated nobody. Here that is possible on loopback addresses only, unless you"
        " set auth.none.anywhere: true; docs/how-to/without-keystone.md has better ways.",
    )
