"""How many requests and bytes each process accepts, and how many uploads run at the same time."""

import attrs

from imgservice.config.forms import ADDRESSES
from imgservice.domain.options import option, section
from imgservice.domain.rates import ByteRate, Rate


@attrs.frozen(kw_only=True)
class AddressRatesOptions:
    requests: Rate | None = option(
        Rate(2000, 10000), "Requests from one address, which in IPv6 is a /64 network."
    )
    failures: Rate | None = option(
        Rate(10, 1000), "Requests from one address with a wrong password or token."
    )
    exempt: tuple[str, ...] = option(
        (), "Addresses or networks to which these limits do not apply.", form=ADDRESSES
    )


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
    address: AddressRatesOptions = section(
        AddressRatesOptions, "Rates for each address, applied before authentication."
    )
    user: UserRatesOptions = section(UserRatesOptions, "Rates for each user.")
    project: ProjectRatesOptions = section(
        ProjectRatesOptions, "Rates for all users of a project together."
    )
    exempt_roles: tuple[str, ...] = option(
        ("admin", "service"), "Callers with one of these roles are not limited."
    )


@attrs.frozen(kw_only=True)
class UploadsOptions:
    total: int | None = option(1000, "Maximum number of uploads in all.", ge=1)
    project: int | None = option(
        100,
        "Maximum number of uploads of one project. The roles in rate.exempt_roles are exempt.",
        ge=1,
    )
