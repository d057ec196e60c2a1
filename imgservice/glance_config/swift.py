"""From a store of Glance's in Swift to one of type swift."""

from collections.abc import Mapping

from imgservice.glance_config.authorities import convert_authorities
from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.ini import Assignment
from imgservice.glance_config.values import TRUE, Read, boolean, number, string, whole
from imgservice.store.swift.config import LARGEST_OBJECT
from imgservice.store.swift.references import read_references

_UNIT = 1_024_000
"""Bytes of what Glance calls a megabyte here."""
_INTERFACES = {"publicurl": "public", "internalurl": "internal", "adminurl": "admin"}
_DROPPED: Mapping[str, str] = {
    "auth_version": "Keystone's API is always version 3",
    "ssl_compression": "TLS does not compress data any more",
    "project_name": "an application credential has its project",
    "project_id": "an application credential has its project",
    "buffer_on_upload": "segments are not copied to disks here",
    "upload_buffer_dir": "segments are not copied to disks here",
    "admin_tenants": "has no effect without swift_store_multi_tenant",
    "use_trusts": "has no effect without swift_store_multi_tenant",
}
_WITHOUT_STORE = ("buffer_on_upload", "upload_buffer_dir")
_OF_THE_FILE = (
    "auth_address",
    "user",
    "key",
    "application_credential_id",
    "application_credential_secret",
)


def is_multi_tenant(conversion: Conversion, group: str) -> bool:
    """Tell whether every image is in an account of its owner, which is not possible here."""
    text = conversion.given.text(_name(group, "multi_tenant"))
    return text is not None and text.lower() in TRUE


def convert_swift(
    conversion: Conversion, group: str, path: tuple[str, ...], named: Assignment | None
) -> None:
    """Convert the options of the section `group` to keys below `path`."""
    one = _find(conversion, group, "multi_tenant")
    if one is not None:
        conversion.ignore(one, "is the same here")
    _convert_accounts(conversion, group, path, named)
    _convert_endpoint(conversion, group, path)
    _convert_tls(conversion, group, path)
    reads: Mapping[str, tuple[str, Read[object]]] = {
        "container": ("container", string),
        "multiple_containers_seed": ("container_seed", whole(0, 32)),
        "create_container_on_put": ("create_container", boolean),
        "retry_get_count": ("read_retries", whole(0)),
        "expire_soon_interval": ("token_margin", number),
    }
    for name, (key, read) in reads.items():
        conversion.option((*path, key), read, _name(group, name))
    _convert_size(conversion, (*path, "segment_from"), _name(group, "large_object_size"))
    _convert_size(conversion, (*path, "segment_size"), _name(group, "large_object_chunk_size"))
    for name, reason in _DROPPED.items():
        one = _find(conversion, group, name)
        if one is not None:
            conversion.ignore(one, reason)


def _name(group: str, name: str) -> str:
    full = f"swift_{name}" if name in _WITHOUT_STORE else f"swift_store_{name}"
    return f"{group}/{full}"


def _find(conversion: Conversion, group: str, name: str) -> Assignment | None:
    return conversion.given.find(_name(group, name))


# -- accounts ---------------------------------------------------------------------------------


def _convert_accounts(
    conversion: Conversion, group: str, path: tuple[str, ...], named: Assignment | None
) -> None:
    name = f"{group}/default_swift_reference"
    reference = conversion.option((*path, "reference"), string, name) or "ref1"
    file = _find(conversion, group, "config_file")
    if file is not None and file.text:
        _convert_file(conversion, path, file, reference)
        for name in _OF_THE_FILE:
            one = _find(conversion, group, name)
            if one is not None:
                conversion.ignore(one, "has no effect beside swift_store_config_file")
        return
    if file is not None:
        conversion.ignore(file, "is empty")
    if conversion.option((*path, "auth_url"), string, _name(group, "auth_address")) is None:
        missing = named or file
        if missing is not None:
            conversion.wrong(missing, "needs swift_store_config_file or swift_store_auth_address")
    _convert_credentials(conversion, group, path)


def _convert_file(
    conversion: Conversion, path: tuple[str, ...], given: Assignment, reference: str
) -> None:
    name = conversion.read(given, string)
    if name is None:
        return
    found = conversion.folders.find(name)
    if found is None:
        reason = "there is no such file here, so it cannot be the references_file of the store"
        conversion.keep("stores", [given], reason, matters=True)
        return
    try:
        references = read_references(str(found))
    except ValueError as error:
        conversion.wrong(given, str(error))
        return
    if reference not in references:
        known = ", ".join(references) or "none"
        conversion.wrong(given, f"has no section {reference!r} (sections: {known})")
    conversion.put((*path, "references_file"), str(found), given)


def _convert_credentials(conversion: Conversion, group: str, path: tuple[str, ...]) -> None:
    id_, secret = (
        _find(conversion, group, f"application_credential_{part}") for part in ("id", "secret")
    )
    if id_ is None or secret is None or not (id_.text and secret.text):
        conversion.option((*path, "user"), string, _name(group, "user"))
        conversion.secret((*path, "key"), _name(group, "key"))
        for one in (id_, secret):
            if one is not None:
                conversion.ignore(one, "has no effect alone")
        return
    own = (*path, "application_credential")
    conversion.option((*own, "id"), string, _name(group, "application_credential_id"))
    conversion.secret((*own, "secret"), _name(group, "application_credential_secret"))
    for name in ("user", "key"):
        one = _find(conversion, group, name)
        if one is not None:
            conversion.ignore(one, "has no effect beside an application credential")


# -- Swift itself -----------------------------------------------------------------------------


def _convert_endpoint(conversion: Conversion, group: str, path: tuple[str, ...]) -> None:
    for name in ("region", "endpoint", "service_type"):
        conversion.option((*path, name), string, _name(group, name))
    conversion.option((*path, "interface"), _interface, _name(group, "endpoint_type"))


def _interface(text: str) -> str:
    if text.lower() not in _INTERFACES:
        raise ValueError(f"expected publicURL, internalURL or adminURL, got {text!r}")
    return _INTERFACES[text.lower()]


def _convert_tls(conversion: Conversion, group: str, path: tuple[str, ...]) -> None:
    insecure = _find(conversion, group, "auth_insecure")
    authorities = _find(conversion, group, "cacert")
    is_insecure, file = conversion.read(insecure, boolean), conversion.read(authorities, string)
    if insecure is not None and is_insecure is not None:
        conversion.put((*path, "insecure"), is_insecure, insecure)
    if authorities is None:
        return
    if not file or is_insecure:
        conversion.ignore(authorities, "is empty" if not file else "has no effect beside insecure")
    else:
        convert_authorities(conversion, path, authorities, file)


def _convert_size(conversion: Conversion, path: tuple[str, ...], name: str) -> None:
    one = conversion.given.find(name)
    megabytes = conversion.read(one, whole(0))
    if megabytes is None:
        return
    size = max(1, megabytes * _UNIT)
    if size <= LARGEST_OBJECT:
        conversion.put(path, size, one)
        return
    remark = "the most that is possible here, as in Swift unless it was changed"
    conversion.put(path, LARGEST_OBJECT, one, remark)
