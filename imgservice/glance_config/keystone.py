"""From [keystone_authtoken] to auth.keystone."""

from collections.abc import Mapping, Sequence

from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.ini import Assignment
from imgservice.glance_config.values import boolean, string, whole, words

GROUP = "keystone_authtoken"

_PASSWORD = ("password", "v3password")
_APPLICATION = ("v3applicationcredential",)

_OWN: Mapping[str, Sequence[str]] = {
    "username": ("username", "user_name"),
    "user_domain": ("user_domain_name",),
    "user_domain_id": ("user_domain_id",),
    "project_domain": ("project_domain_name",),
    "project_domain_id": ("project_domain_id",),
}
"""Our credentials; they may be in another section, which auth_section names."""

_NO_KEY = {
    "user_id": "users are named here, by username and user_domain",
    "project_id": "projects are named here, by project and project_domain",
    "tenant_id": "projects are named here, by project and project_domain",
    "trust_id": "trusts are not supported",
    "domain_id": "the scope of a domain is not supported",
    "domain_name": "the scope of a domain is not supported",
    "application_credential_name": "application credentials are known by their ids here",
}


def convert_keystone(conversion: Conversion, needed_by: Assignment | None) -> None:
    """Convert our credentials and how Keystone is reached; `needed_by` is the flavor in use."""
    section = conversion.given.find(f"{GROUP}/auth_section")
    place = conversion.read(section, string) or GROUP
    if section is not None:
        conversion.converted.add(section)
    _convert_server(conversion, place)
    kind = conversion.given.find(f"{place}/auth_type", f"{place}/auth_plugin")
    name = conversion.read(kind, string) or "password"
    if name in _APPLICATION:
        _convert_application(conversion, place, kind)
    elif name in _PASSWORD:
        _convert_password(conversion, place, kind)
    elif kind is not None:
        reason = "Keystone is asked with a password or an application credential here"
        conversion.keep("auth", [kind], reason, matters=True)
    if needed_by is not None and conversion.document.get("auth.keystone.url") is None:
        conversion.wrong(needed_by, f"needs Keystone, but [{place}] auth_url is missing")


def _convert_server(conversion: Conversion, place: str) -> None:
    conversion.option("auth.keystone.url", string, f"{place}/auth_url")
    for key, read, *names in (
        ("www_authenticate_uri", string, "www_authenticate_uri", "auth_uri"),
        ("ca_file", string, "cafile"),
        ("timeout", whole(1), "http_connect_timeout"),
        ("service_token_roles", words, "service_token_roles"),
        ("service_token_roles_required", boolean, "service_token_roles_required"),
    ):
        conversion.option(f"auth.keystone.{key}", read, *(f"{GROUP}/{name}" for name in names))
    _convert_insecure(conversion)
    _convert_cache_time(conversion)


def _convert_insecure(conversion: Conversion) -> None:
    one = conversion.given.find(f"{GROUP}/insecure")
    insecure = conversion.read(one, boolean)
    if one is None or insecure is None:
        return
    if insecure and conversion.document.get("auth.keystone.ca_file") is not None:
        conversion.wrong(one, "contradicts cafile: give one of them")
    conversion.put("auth.keystone.insecure", insecure, one)


def _convert_cache_time(conversion: Conversion) -> None:
    one = conversion.given.find(f"{GROUP}/token_cache_time")
    seconds = conversion.read(one, whole(-1))
    if seconds is not None:
        conversion.put("auth.keystone.cache_time", max(0, seconds), one)


def _convert_application(conversion: Conversion, place: str, kind: Assignment | None) -> None:
    if kind is not None:
        conversion.converted.add(kind)
    own = "auth.keystone.application_credential"
    conversion.option(f"{own}_id", string, f"{place}/application_credential_id")
    conversion.secret(f"{own}_secret", f"{place}/application_credential_secret")
    if conversion.document.get("auth.keystone.application_credential_id") is None and kind:
        conversion.wrong(kind, "needs application_credential_id")
    _keep_rest(conversion, place)


def _convert_password(conversion: Conversion, place: str, kind: Assignment | None) -> None:
    if kind is not None:
        conversion.converted.add(kind)
    for key, names in _OWN.items():
        conversion.option(f"auth.keystone.{key}", string, *(f"{place}/{name}" for name in names))
    conversion.secret("auth.keystone.password", f"{place}/password")
    _convert_default_domain(conversion, place)
    _convert_scope(conversion, place)
    _keep_rest(conversion, place)


def _convert_default_domain(conversion: Conversion, place: str) -> None:
    """The default domain is that of the user and the project, where these have none."""
    for ending in ("_id", "_name"):
        one = conversion.given.find(f"{place}/default_domain{ending}")
        name = conversion.read(one, string)
        if one is None or not name:
            continue
        own = ending.removesuffix("_name")
        unused = True
        for whose in ("user_domain", "project_domain"):
            keys = [f"auth.keystone.{whose}{end}" for end in ("", "_id")]
            if all(conversion.document.get(key) is None for key in keys):
                conversion.put(f"auth.keystone.{whose}{own}", name, one)
                unused = False
        if unused:
            conversion.ignore(one, "the user and the project have domains of their own")


def _convert_scope(conversion: Conversion, place: str) -> None:
    project = [f"{place}/project_name", f"{place}/tenant_name"]
    one = conversion.given.find(f"{place}/system_scope")
    if one is not None and conversion.read(one, string) == "all":
        if conversion.given.find(*project) is not None:
            conversion.wrong(one, "contradicts project_name: give one of them")
        conversion.put("auth.keystone.project", None, one)
        return
    if one is not None:
        conversion.wrong(one, f"expected all, got {one.text!r}")
    conversion.option("auth.keystone.project", string, *project)


def _keep_rest(conversion: Conversion, place: str) -> None:
    """Keep credentials that have no key here, in their group or in the other one."""
    for name, reason in _NO_KEY.items():
        one = conversion.given.find(f"{place}/{name}")
        if one is not None:
            conversion.keep("auth", [one], reason, matters=True)
    for name in ("certfile", "keyfile"):
        one = conversion.given.find(f"{GROUP}/{name}")
        if one is not None:
            reason = "a certificate of our own for Keystone is not supported"
            conversion.keep("auth", [one], reason, matters=True)
