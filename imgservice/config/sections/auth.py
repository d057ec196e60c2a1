"""How callers authenticate."""

from typing import Literal

import attrs

from imgservice.config.forms import ADDRESSES
from imgservice.config.sections.keystone import KeystoneAuthOptions
from imgservice.domain.options import option, section


@attrs.frozen(kw_only=True)
class NoAuthOptions:
    user: str = option("admin", "The user that all callers are.")
    project: str = option("admin", "The project of that user, which owns what callers create.")
    roles: tuple[str, ...] = option(("admin",), "The roles of that user.")
    anywhere: bool = option(
        False,
        "Allow this mode on addresses other than loopback. Anybody who can connect can then do"
        " everything.",
    )
    hosts: tuple[str, ...] = option(
        (),
        "Host names that requests may be addressed to, beside localhost and the host of"
        ' server.public_url. "*": any; every web page that is open on this machine can then do'
        " everything, too.",
    )


@attrs.frozen(kw_only=True)
class TrustedHeadersOptions:
    from_: tuple[str, ...] = option(
        ("127.0.0.1", "::1"),
        "Addresses or networks of the proxies that authenticate users.",
        form=ADDRESSES,
    )
    hosts: tuple[str, ...] = option(
        (),
        "Host names that requests may be addressed to, beside localhost. Empty: any.",
    )


@attrs.frozen(kw_only=True)
class BasicAuthOptions:
    file: str | None = option(None, "htpasswd file with bcrypt hashes, as `htpasswd -B` writes it.")
    users: str | None = option(
        None,
        "YAML file with the project and the roles of each user, as in"
        " `alice: {project: apollo, roles: [member]}`. null: each user has a project of the same"
        " name.",
    )
    roles: tuple[str, ...] = option(("member",), "Roles of all users if there is no users file.")


@attrs.frozen(kw_only=True)
class TokenAuthOptions:
    file: str | None = option(None, "File of hashed tokens, which `imgservice token` maintains.")


@attrs.frozen(kw_only=True)
class CertificateAuthOptions:
    file: str | None = option(
        None,
        "YAML file that maps the subjects of certificates to users, as in"
        ' `"CN=alice,O=Example": {user: alice, project: apollo, roles: [member]}`.',
    )


@attrs.frozen(kw_only=True)
class AuthOptions:
    mode: Literal[
        "none", "basic", "tokens", "keystone", "client_certificate", "trusted_headers"
    ] = option(
        "none",
        "none: no authentication. basic: user names and passwords. tokens: static tokens. keystone:"
        " Keystone tokens. client_certificate: TLS client certificates. trusted_headers: headers of"
        " a proxy that authenticates.",
    )
    none: NoAuthOptions = section(NoAuthOptions, "Options of the mode none.")
    basic: BasicAuthOptions = section(BasicAuthOptions, "Options of the mode basic.")
    tokens: TokenAuthOptions = section(TokenAuthOptions, "Options of the mode tokens.")
    keystone: KeystoneAuthOptions = section(KeystoneAuthOptions, "Options of the mode keystone.")
    client_certificate: CertificateAuthOptions = section(
        CertificateAuthOptions,
        "Options of the mode client_certificate, which needs server.tls.client_ca.",
    )
    trusted_headers: TrustedHeadersOptions = section(
        TrustedHeadersOptions, "Options of the mode trusted_headers."
    )
    anonymous_read: bool = option(False, "Allow callers without credentials to read public images.")
    clear_text: bool = option(
        False,
        "Allow the modes basic and tokens without TLS on addresses other than loopback. Anybody on"
        " the network path can then read passwords and tokens.",
    )
