"""What may be fetched from other servers: the section `import`, which is a word of Python's."""

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class UrlFilterOptions:
    allowed_schemes: tuple[str, ...] = option(
        ("http", "https"), "If not empty, only these; else all but the disallowed ones."
    )
    disallowed_schemes: tuple[str, ...] = option((), "Schemes that are refused.")
    allowed_hosts: tuple[str, ...] = option((), "If not empty, only these hosts.")
    disallowed_hosts: tuple[str, ...] = option((), "Hosts that are refused.")
    allowed_ports: tuple[int, ...] = option((80, 443), "If not empty, only these ports.")
    disallowed_ports: tuple[int, ...] = option((), "Ports that are refused.")
    private: bool = option(
        True, "Whether private networks (RFC 1918, shared, and unique local IPv6) may be reached."
    )
    cidrs: tuple[str, ...] = option(
        (),
        "Networks that may be reached in any case. The addresses of this host, link-local ones and"
        " the metadata services of clouds are refused unless they are listed here.",
    )


@attrs.frozen(kw_only=True)
class ImportOptions:
    filter: UrlFilterOptions = option(
        UrlFilterOptions, "Which URLs that users name we may fetch; redirects are judged likewise."
    )
