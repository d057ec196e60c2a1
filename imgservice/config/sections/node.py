"""This node among others that share a database."""

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class NodeOptions:
    url: str | None = option(
        None,
        "How the other nodes that share the database reach this one, such as http://node1:9292.",
    )
    peers: tuple[str, ...] | None = option(
        None,
        "URLs of the other nodes, to which requests may be sent on with what proves who asks; null:"
        " those that nodes have recorded in the database, unless they are this host or its link.",
    )
    ca_file: str | None = option(
        None, "PEM file of whom to trust there; null: the authorities that the system trusts."
    )
