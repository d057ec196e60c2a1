"""Quotas and rate limits."""

from collections.abc import Mapping

import attrs

from imgservice.domain.options import option
from imgservice.domain.rates import ByteRate, Rate
from imgservice.domain.units import Duration, Size


@attrs.frozen(kw_only=True)
class ProjectLimitsOptions:
    """The limits of one project, named as Keystone's unified limits for images are."""

    image_size_total: Size | None = option(
        None,
        "Most bytes of all its images, every copy counted, with what its running uploads may add;"
        " null: no limit.",
    )
    image_stage_total: Size | None = option(
        None, "Most bytes that wait to be imported, or are being copied."
    )
    image_count_total: int | None = option(None, "Most images.")
    image_count_uploading: int | None = option(None, "Most images whose data is on its way.")


@attrs.frozen(kw_only=True)
class KeystoneLimitsOptions:
    enabled: bool = option(
        False, "Whether Keystone's unified limits hold; auth.keystone says how to ask for them."
    )
    endpoint_id: str | None = option(
        None,
        "The endpoint for whose service and region limits are registered; null: that of service"
        " and region.",
    )
    service: str = option("image", "The type, or the name, of the service in Keystone's catalog.")
    region: str | None = option(None, "Its region; null: the only one there is.")
    cache_time: Duration = option(
        Duration(5), "How long the limits of a project are remembered; 0: ask every time."
    )


@attrs.frozen(kw_only=True)
class LocalLimitsOptions:
    default: ProjectLimitsOptions = option(
        ProjectLimitsOptions, "For projects that are not listed."
    )
    overrides: Mapping[str, ProjectLimitsOptions] = option(
        dict, "By a project's id: limits that hold for it in place of the default ones."
    )


@attrs.frozen(kw_only=True)
class AddressRatesOptions:
    requests: Rate | None = option(
        Rate(2000, 10000), "Requests from one address, which in IPv6 is a /64 network."
    )
    failures: Rate | None = option(
        Rate(10, 1000), "Requests from one address whose password or token was wrong."
    )
    exempt: tuple[str, ...] = option((), "Addresses or networks that these do not hold for.")


@attrs.frozen(kw_only=True)
class UserRatesOptions:
    requests: Rate | None = option(Rate(500, 5000), "Requests of one user.")
    bytes_in: ByteRate | None = option(
        None, "Bytes that one user uploads, such as {per_second: 50MiB, burst: 1GiB}."
    )
    bytes_out: ByteRate | None = option(None, "Bytes that one user downloads.")


@attrs.frozen(kw_only=True)
class ProjectRatesOptions:
    requests: Rate | None = option(Rate(1000, 10000), "Requests of one project.")
    creates: Rate | None = option(
        Rate(20, 1000),
        "Requests of one project that may add rows to the database: those that create images,"
        " members, tags and locations, and those that change images.",
    )
    bytes_in: ByteRate | None = option(None, "Bytes that one project uploads.")
    bytes_out: ByteRate | None = option(None, "Bytes that one project downloads.")


@attrs.frozen(kw_only=True)
class RatesOptions:
    address: AddressRatesOptions = option(
        AddressRatesOptions, "Counted before it is known who asks."
    )
    user: UserRatesOptions = option(UserRatesOptions, "Counted for every user by himself.")
    project: ProjectRatesOptions = option(
        ProjectRatesOptions, "Counted for all users of a project together."
    )
    exempt_roles: tuple[str, ...] = option(
        ("admin", "service"), "Whoever has one of these roles is not limited."
    )


@attrs.frozen(kw_only=True)
class UploadsOptions:
    total: int | None = option(1000, "Most uploads of everybody.")
    project: int | None = option(
        100, "Most uploads of one project, unless the role is one of rate.exempt_roles."
    )


@attrs.frozen(kw_only=True)
class LimitsOptions:
    image_size: Size = option(Size(1 << 40), "Most bytes in an image.")
    properties: int = option(128, "Most custom properties of an image; -1: no limit.")
    patch_operations: int = option(
        1000, "Most operations in one change of an image (PATCH); -1: no limit."
    )
    property_value: Size = option(
        Size((1 << 16) - 1),
        "Most bytes in the value of a custom property, such as a description, and in the metadata"
        " of a location; 0: no limit. MySQL and MariaDB hold no more than 65535. What is longer"
        " already stays.",
    )
    tags: int = option(128, "Most tags of an image; -1: no limit.")
    members: int = option(128, "Most projects an image is shared with; -1: no limit.")
    locations: int = option(10, "Most locations of an image; -1: no limit.")
    rate: RatesOptions = option(
        RatesOptions,
        "What this process takes {per_second: in the long run, burst: at once}; null: any number."
        " Requests beyond it are answered with 429, bytes are slowed down.",
    )
    uploads: UploadsOptions = option(
        UploadsOptions,
        "How many uploads may run at the same time in this process, those among them that read"
        " data from a location; null: any number.",
    )
    user_storage: Size = option(
        Size(0), "Most bytes of the images of any one project, every copy counted; 0: no limit."
    )
    keystone: KeystoneLimitsOptions = option(
        KeystoneLimitsOptions, "How much each project may have, as Keystone says it; or:"
    )
    projects: LocalLimitsOptions = option(
        LocalLimitsOptions, "How much each project may have, as said here."
    )
