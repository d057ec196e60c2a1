"""Data that is fetched from other servers: the section `import`, a keyword of Python."""

import attrs

from imgservice.config.forms import HOST, NETWORK
from imgservice.domain.options import option, section


@attrs.frozen(kw_only=True)
class UrlFilterOptions:
    allowed_schemes: tuple[str, ...] = option(
        ("http", "https"), "The only schemes that are allowed. Empty: all but the disallowed ones."
    )
    disallowed_schemes: tuple[str, ...] = option((), "Schemes that are refused.")
    allowed_hosts: tuple[str, ...] = option(
        (), "The only hosts that are allowed. Empty: all but the disallowed ones.", form=HOST
    )
    disallowed_hosts: tuple[str, ...] = option((), "Hosts that are refused.", form=HOST)
    allowed_ports: tuple[int, ...] = option(
        (80, 443), "The only ports that are allowed. Empty: all but the disallowed ones."
    )
    disallowed_ports: tuple[int, ...] = option((), "Ports that are refused.")
    private: bool = option(
        True, "Allow private networks (RFC 1918, shared, and unique local IPv6 addresses)."
    )
    cidrs: tuple[str, ...] = option(
        (),
        "Networks that are always allowed. The addresses of this host, link-local addresses and the"
        " metadata services of clouds are refused unless they are listed here.",
        form=NETWORK,
    )


@attrs.frozen(kw_only=True)
class ImportOptions:
    filter: UrlFilterOptions = section(
        UrlFilterOptions,
        "Which URLs that users provide may be fetched. It applies to redirects as well.",
    )
