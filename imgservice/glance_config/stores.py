"""From Glance's backends to stores."""

from collections.abc import Mapping

import attrs

from imgservice.glance_config.authorities import convert_authorities
from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.ini import Assignment
from imgservice.glance_config.s3 import convert_s3
from imgservice.glance_config.swift import convert_swift, is_multi_tenant
from imgservice.glance_config.values import (
    boolean,
    directory,
    file_mode,
    pairs,
    string,
    whole,
    words,
)

_TYPES: Mapping[str, str] = {
    "file": "file",
    "filesystem": "file",
    "glance.store.filesystem.Store": "file",
    "http": "http",
    "https": "http",
    "glance.store.http.Store": "http",
    "swift": "swift",
    "swift+http": "swift",
    "swift+https": "swift",
    "swift+config": "swift",
    "glance.store.swift.Store": "swift",
    "s3": "s3",
    "glance.store.s3.Store": "s3",
}
_WRITABLE = ("file", "s3", "swift")
_OLD = "glance_store"
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "rbd": ("rbd_", "rados_"),
    "swift": ("swift_", "default_swift_"),
    "cinder": ("cinder_",),
    "vmware": ("vmware_",),
}
"""Prefixes of the options of drivers that are not here."""
_READ_ONLY = "is a store that takes no data here"


@attrs.frozen
class _Backend:
    """A store of Glance's: its name, its type there, the section of its options, its place."""

    name: str
    type: str
    group: str
    named: Assignment | None


def convert_stores(conversion: Conversion) -> None:
    backends, default = _backends(conversion)
    if all(backend.group == _OLD for backend in backends):
        named = conversion.given.find("DEFAULT/enabled_backends")
        remark = "Glance has no enabled_backends: clients see no stores"
        conversion.put("single_store", True, named, remark)
    for backend in backends:
        kind = _TYPES.get(backend.type)
        if kind == "file":
            _convert_file(conversion, backend)
        elif kind == "http":
            _convert_http(conversion, backend)
        elif kind == "swift":
            _convert_swift(conversion, backend)
        elif kind == "s3":
            convert_s3(conversion, backend.group, _begin(conversion, backend, "s3"))
        else:
            reason = f"a store of type {backend.type} is not supported yet: {backend.name}"
            _keep(conversion, backend, reason)
    _convert_default(conversion, backends, default)


def _backends(conversion: Conversion) -> tuple[list[_Backend], Assignment | None]:
    given = conversion.given
    one = given.find("DEFAULT/enabled_backends")
    if one is None or not one.text:
        return _old_backends(conversion), given.find(f"{_OLD}/default_store")
    found = conversion.read(one, pairs) or {}
    for name in found:
        if name.startswith("os_glance_"):
            conversion.wrong(one, f"names that begin with os_glance_ are reserved; got {name!r}")
    conversion.converted.add(one)
    default = given.find(f"{_OLD}/default_backend")
    for old in ("stores", "default_store"):
        unused = given.find(f"{_OLD}/{old}")
        if unused is not None:
            conversion.ignore(unused, "has no effect beside enabled_backends, in Glance either")
    return [_Backend(name, kind, name, one) for name, kind in found.items()], default


def _old_backends(conversion: Conversion) -> list[_Backend]:
    """One section has the options of all stores, which had no names."""
    one = conversion.given.find(f"{_OLD}/stores")
    types = conversion.read(one, words) if one is not None else ["file", "http"]
    if one is not None:
        conversion.converted.add(one)
    unique = dict.fromkeys(_TYPES.get(kind, kind) for kind in types or ())
    return [_Backend(kind, kind, _OLD, one) for kind in unique]


# -- one store --------------------------------------------------------------------------------


def _begin(conversion: Conversion, backend: _Backend, kind: str) -> tuple[str, ...]:
    path = ("stores", backend.name)
    conversion.put((*path, "type"), kind, backend.named)
    if backend.group != _OLD:
        for key, read, name in (
            ("description", string, "store_description"),
            ("weight", whole(-(1 << 63)), "weight"),
        ):
            conversion.option((*path, key), read, f"{backend.group}/{name}")
    return path


def _convert_file(conversion: Conversion, backend: _Backend) -> None:
    group = backend.group
    path = _begin(conversion, backend, "file")
    single = conversion.given.find(f"{group}/filesystem_store_datadir")
    several = conversion.given.find_all(f"{group}/filesystem_store_datadirs")
    if single is not None and several:
        conversion.wrong(several[0], f"and filesystem_store_datadir ({single.place}): give one")
    elif several:
        _convert_directories(conversion, (*path, "paths"), several)
    else:
        value = conversion.read(single, string) or "/var/lib/glance/images"
        remark = "" if single else "Glance's default"
        conversion.put((*path, "path"), value, single, remark)
    _convert_mode(conversion, backend, path)
    conversion.option((*path, "thin"), boolean, f"{group}/filesystem_thin_provisioning")
    for name, reason in (
        ("metadata_file", "metadata from a file for every location are not supported"),
        ("timeout", "a file system that does not answer is not noticed"),
    ):
        one = conversion.given.find(f"{group}/filesystem_store_{name}")
        if one is not None and one.text not in ("", "0"):
            conversion.keep("stores", [one], reason)
        elif one is not None:
            conversion.ignore(one, "is the same here")


def _convert_directories(
    conversion: Conversion, path: tuple[str, ...], given: list[Assignment]
) -> None:
    found: dict[str, int] = {}
    for one in given:
        read = conversion.read(one, directory)
        if read is None:
            continue
        if found.setdefault(*read) != read[1]:
            conversion.wrong(one, f"{read[0]} is there already, with another priority")
        conversion.converted.add(one)
    conversion.put(path, found, given[0])


def _convert_mode(conversion: Conversion, backend: _Backend, path: tuple[str, ...]) -> None:
    one = conversion.given.find(f"{backend.group}/filesystem_store_file_perm")
    mode = conversion.read(one, file_mode)
    if one is None:
        return
    if mode is None:
        conversion.ignore(one, "is the same here: what the umask leaves")
    elif not int(mode, 8) & 0o400:
        conversion.wrong(one, f"the owner could not read files of mode {mode}")
    else:
        conversion.put((*path, "file_mode"), mode, one)


def _convert_http(conversion: Conversion, backend: _Backend) -> None:
    group = backend.group
    path = _begin(conversion, backend, "http")
    authorities = conversion.given.find(f"{group}/https_ca_certificates_file")
    insecure = conversion.given.find(f"{group}/https_insecure")
    file, trusting = conversion.read(authorities, string), conversion.read(insecure, boolean)
    if authorities is not None and file:
        convert_authorities(conversion, path, authorities, file)
    if insecure is not None and file:
        conversion.ignore(insecure, "has no effect beside https_ca_certificates_file")
    elif insecure is not None and trusting is not None:
        conversion.put((*path, "verify"), not trusting, insecure)
    elif not file:
        remark = "Glance does not check certificates unless it is told to"
        conversion.put((*path, "verify"), True, None, remark)
    proxies = conversion.given.find(f"{group}/http_proxy_information")
    if proxies is not None and proxies.text:
        reason = "proxies for the store's requests are not supported"
        conversion.keep("stores", [proxies], reason, matters=True)
    elif proxies is not None:
        conversion.ignore(proxies, "is empty")


def _convert_swift(conversion: Conversion, backend: _Backend) -> None:
    if is_multi_tenant(conversion, backend.group):
        why = f"a store in the accounts of users (swift_store_multi_tenant): {backend.name}"
        _keep(conversion, backend, f"{why} is not supported")
        return
    path = _begin(conversion, backend, "swift")
    convert_swift(conversion, backend.group, path, backend.named)


def _keep(conversion: Conversion, backend: _Backend, reason: str) -> None:
    """Keep all options of a store that we cannot have."""
    if backend.named is not None:
        conversion.matters.append(f"{backend.named}: {reason}")
    wanted = _PREFIXES.get(backend.type.partition(".")[0], (f"{backend.type}_",))
    some = [
        one
        for one in conversion.given.rest()
        if one.key[0] == backend.group.lower()
        and (backend.group != _OLD or one.key[1].startswith(wanted))
    ]
    for one in some:
        conversion.given.find("/".join(one.key))
    conversion.document.say("stores", f"{reason[:1].upper()}{reason[1:]}:")
    conversion.keep("stores", some, reason)


# -- where new images go ----------------------------------------------------------------------


def _convert_default(
    conversion: Conversion, backends: list[_Backend], named: Assignment | None
) -> None:
    names = [backend.name for backend in backends]
    writable = [
        one.name
        for one in backends
        if conversion.document.get(("stores", one.name, "type")) in _WRITABLE
    ]
    _require_default(conversion, backends, named)
    wanted = _wanted_default(names, conversion.read(named, string))
    if named is not None and wanted not in names:
        known = ", ".join(names) or "none"
        conversion.wrong(named, f"there is no store {wanted!r} (stores: {known})")
    elif wanted in writable:
        conversion.put("default_store", wanted, named)
    elif writable:
        _put_another(conversion, named, wanted, writable[0])
    else:
        _put_nothing_usable(conversion, named, "local" if "local" not in names else "none")


def _require_default(
    conversion: Conversion, backends: list[_Backend], named: Assignment | None
) -> None:
    enabled = backends[0].named if len(backends) > 1 and backends[0].group != _OLD else None
    if named is None and enabled is not None:
        conversion.wrong(enabled, "[glance_store] default_backend must name one of them")


def _wanted_default(names: list[str], text: str | None) -> str:
    """Return the store that Glance puts new images into."""
    wanted = text or ("file" if "file" in names else next(iter(names), ""))
    return wanted if wanted in names else _TYPES.get(wanted, wanted)


def _put_another(
    conversion: Conversion, named: Assignment | None, wanted: str, writable: str
) -> None:
    if named is not None:
        conversion.keep("default_store", [named], _READ_ONLY)
    conversion.put("default_store", writable, None, "CHANGE THIS: see below")
    conversion.lose(
        "default_store",
        f"In Glance, new images go to the store {wanted}. It cannot take data here: they go to"
        f" {writable} instead.",
    )


def _put_nothing_usable(conversion: Conversion, named: Assignment | None, name: str) -> None:
    conversion.put(("stores", name, "type"), "file", None, "CHANGE THIS: see below")
    conversion.put(("stores", name, "path"), "var/images", None)
    conversion.put("default_store", name, None)
    if named is not None:
        conversion.keep("default_store", [named], _READ_ONLY)
    conversion.lose(
        "stores",
        f"None of Glance's stores can take data here. The store {name} is a placeholder, since one"
        " is needed: it would put images into var/images of the working directory.",
    )
