"""Options that have a key of their own here."""

from collections.abc import Sequence

from imgservice.config.sections.server import MOST_WORKERS
from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.values import (
    Read,
    boolean,
    limit,
    number,
    ports,
    storage,
    string,
    whole,
    words,
)

_LARGEST = (1 << 63) - 1

_PLAIN: Sequence[tuple[str, Read[object], Sequence[str]]] = (
    ("server.public_url", string, ["DEFAULT/public_endpoint"]),
    ("server.workers", whole(0, MOST_WORKERS), ["DEFAULT/workers"]),
    ("server.umask", string, ["DEFAULT/umask"]),
    ("server.keepalive", boolean, ["DEFAULT/http_keepalive"]),
    ("server.backlog", whole(1), ["DEFAULT/backlog"]),
    ("server.tcp_keepidle", whole(1), ["DEFAULT/tcp_keepidle"]),
    ("server.max_header_line", whole(1), ["DEFAULT/max_header_line"]),
    ("node.url", string, ["DEFAULT/worker_self_reference_url"]),
    ("cors.allowed_origins", words, ["cors/allowed_origin"]),
    ("cors.allow_credentials", boolean, ["cors/allow_credentials"]),
    ("cors.max_age", whole(0), ["cors/max_age"]),
    ("auth.anonymous_read", boolean, ["DEFAULT/allow_anonymous_access"]),
    ("policy.enforce_new_defaults", boolean, ["oslo_policy/enforce_new_defaults"]),
    ("policy.enforce_scope", boolean, ["oslo_policy/enforce_scope"]),
    ("policy.property_protections.format", string, ["DEFAULT/property_protection_rule_format"]),
    ("database.pool_timeout", whole(0), ["database/pool_timeout"]),
    ("api.max_request_id", whole(0), ["DEFAULT/max_request_id_length"]),
    ("locations.show", boolean, ["DEFAULT/show_multiple_locations"]),
    ("locations.direct_url", boolean, ["DEFAULT/show_image_direct_url"]),
    ("locations.secure_hash", boolean, ["DEFAULT/do_secure_hash"]),
    ("import.filter.allowed_schemes", words, ["import_filtering_opts/allowed_schemes"]),
    ("import.filter.disallowed_schemes", words, ["import_filtering_opts/disallowed_schemes"]),
    ("import.filter.allowed_hosts", words, ["import_filtering_opts/allowed_hosts"]),
    ("import.filter.disallowed_hosts", words, ["import_filtering_opts/disallowed_hosts"]),
    ("import.filter.allowed_ports", ports, ["import_filtering_opts/allowed_ports"]),
    ("import.filter.disallowed_ports", ports, ["import_filtering_opts/disallowed_ports"]),
    ("limits.image_size", whole(1, _LARGEST), ["DEFAULT/image_size_cap"]),
    ("limits.properties", limit, ["DEFAULT/image_property_quota"]),
    ("limits.tags", limit, ["DEFAULT/image_tag_quota"]),
    ("limits.members", limit, ["DEFAULT/image_member_quota"]),
    ("limits.locations", limit, ["DEFAULT/image_location_quota"]),
    ("formats.disk", words, ["image_format/disk_formats", "DEFAULT/disk_formats"]),
    ("formats.container", words, ["image_format/container_formats", "DEFAULT/container_formats"]),
    ("formats.require_match", boolean, ["image_format/require_image_format_match"]),
    ("formats.vmdk_types", words, ["image_format/vmdk_allowed_types"]),
    (
        "formats.gpt_safety_checks_nonfatal",
        words,
        ["image_format/gpt_safety_checks_nonfatal"],
    ),
    ("hash.algorithm", string, ["DEFAULT/hashing_algorithm"]),
    ("healthcheck.disable_by_file", string, ["healthcheck/disable_by_file_path"]),
)  # fmt: skip


def convert_plain(conversion: Conversion) -> None:
    for path, read, names in _PLAIN:
        conversion.option(path, read, *names)
    _convert_pages(conversion)
    _convert_limits(conversion)
    _convert_logging(conversion)
    _convert_idle(conversion)


def _convert_pages(conversion: Conversion) -> None:
    """Glance cuts the default to the maximum; here that would be a contradiction."""
    default = conversion.given.find("DEFAULT/limit_param_default")
    most = conversion.option("api.page_max", whole(1), "DEFAULT/api_limit_max")
    page = conversion.read(default, whole(1)) if default else 25
    if most is not None and page is not None and page > most:
        remark = f"{page} in Glance, which gives no more than api_limit_max"
        conversion.put("api.page_default", most, default, remark)
    elif default is not None and page is not None:
        conversion.put("api.page_default", page, default)


def _convert_limits(conversion: Conversion) -> None:
    given = conversion.given
    switch = given.find("DEFAULT/use_keystone_limits")
    enabled = bool(conversion.read(switch, boolean))
    if switch is not None:
        conversion.put("limits.keystone.enabled", enabled, switch)
    conversion.option("limits.keystone.endpoint_id", string, "oslo_limit/endpoint_id")
    service = ("oslo_limit/endpoint_service_type", "oslo_limit/endpoint_service_name")
    for name in service:  # either names the service here
        if conversion.document.get("limits.keystone.service") is None:
            conversion.option("limits.keystone.service", string, name)
    conversion.option("limits.keystone.region", string, "oslo_limit/endpoint_region_name")
    quota = given.find("DEFAULT/user_storage_quota")
    if quota is not None and enabled:
        conversion.read(quota, storage)
        conversion.ignore(quota, "has no effect beside use_keystone_limits, in Glance either")
    elif quota is not None:
        value = conversion.read(quota, storage)
        if value is not None:
            conversion.put("limits.user_storage", value, quota)


def _convert_logging(conversion: Conversion) -> None:
    given = conversion.given
    for path, name, value in (
        ("logging.level", "DEFAULT/debug", "debug"),
        ("logging.format", "DEFAULT/use_json", "json"),
    ):
        one = given.find(name)
        if one is not None and conversion.read(one, boolean):
            conversion.put(path, value, one)
        elif one is not None:
            conversion.ignore(one, "is the default here, too")
    folder = given.find("DEFAULT/log_dir", "DEFAULT/logdir")
    file = given.find("DEFAULT/log_file", "DEFAULT/logfile")
    place = conversion.read(folder, string) or ""
    name = conversion.read(file, string) or "glance-api.log"
    if folder is None and file is None:
        return
    path = name if name.startswith("/") or not place else f"{place.rstrip('/')}/{name}"
    remark = "Glance's own: choose another one while both run here"
    conversion.put("logging.file", path, file or folder, remark)
    if file is not None and folder is not None:
        conversion.put("logging.file", path, folder)


def _convert_idle(conversion: Conversion) -> None:
    one = conversion.given.find("DEFAULT/client_socket_timeout")
    seconds = conversion.read(one, number)
    if one is not None and seconds:
        conversion.put("server.idle_timeout", seconds, one)
    elif one is not None and seconds == 0:
        conversion.keep("server", [one], "clients that do nothing are always cut off in the end")
