"""How callers authenticate."""

from typing import Literal

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Duration, Secret, Urls


@attrs.frozen(kw_only=True)
class NoAuthOptions:
    user: str = option("admin", "Everybody is this user.")
    project: str = option("admin", "... of this project, which then owns what they create.")
    roles: tuple[str, ...] = option(("admin",), "... with these roles.")
    anywhere: bool = option(
        False, "Allow this mode on addresses other than loopback: anybody may then do anything."
    )
    hosts: tuple[str, ...] = option(
        (),
        'Host names, beside localhost and that of server.public_url, by which we may be asked; "*":'
        " any, and then any web page that is open on this machine can do everything, too.",
    )


@attrs.frozen(kw_only=True)
class TrustedHeadersOptions:
    from_: tuple[str, ...] = option(
        ("127.0.0.1", "::1"), "Addresses or networks of the proxy that has authenticated the user."
    )
    hosts: tuple[str, ...] = option(
        (), "If not empty, the only host names, beside localhost, by which we may be asked."
    )


@attrs.frozen(kw_only=True)
class BasicAuthOptions:
    file: str | None = option(None, "htpasswd file with bcrypt hashes, as `htpasswd -B` makes it.")
    users: str | None = option(
        None,
        "YAML file with the project and the roles of every user, as in"
        " `alice: {project: apollo, roles: [member]}`; null: each user has a project of the user's"
        " own name.",
    )
    roles: tuple[str, ...] = option(
        ("member",), "Roles of all users where there is no file of users."
    )


@attrs.frozen(kw_only=True)
class TokenAuthOptions:
    file: str | None = option(None, "File of hashed tokens; `imgservice token` looks after it.")


@attrs.frozen(kw_only=True)
class CertificateAuthOptions:
    file: str | None = option(
        None,
        "YAML file that says whom the subject of a certificate stands for, as in"
        ' `"CN=alice,O=Example": {user: alice, project: apollo, roles: [member]}`.',
    )


@attrs.frozen(kw_only=True)
class KeystoneAuthOptions:
    url: Urls = option(
        Urls(()),
        "Where Keystone is, such as https://keystone:5000/v3; or a list: the next one is asked when"
        " one fails.",
    )
    username: str | None = option(
        None, "Who we are ourselves, with password and project: a user with the role service."
    )
    password: Secret | None = option(None, "That user's password.")
    project: str | None = option(
        "service", "The project in which that user has the role; null: the whole system."
    )
    user_domain: str = option("Default", "The name of that user's domain.")
    user_domain_id: str | None = option(None, "... or its id.")
    project_domain: str = option("Default", "The name of the project's domain.")
    project_domain_id: str | None = option(None, "... or its id.")
    application_credential_id: str | None = option(
        None, "In place of user and password: the id of an application credential."
    )
    application_credential_secret: Secret | None = option(None, "Its secret.")
    token_file: str | None = option(
        None, "In place of both: a file with a token, read again when somebody renews it."
    )
    ca_file: str | None = option(
        None, "PEM file of whom to trust; null: the authorities that the system trusts."
    )
    insecure: bool = option(
        False, "Take anybody for Keystone who answers: whoever is on the way can let himself in."
    )
    timeout: Duration = option(
        Duration(20), "Longest time that a request waits for Keystone; then it is told to retry."
    )
    connections: int = option(8, "Most questions to Keystone at the same time.")
    cache_time: Duration = option(
        Duration(300),
        "How long an answer about a token is believed, and so the longest time for which a revoked"
        " token still works; 0: ask every time.",
    )
    cache_size: int = option(10_000, "Tokens that are remembered.")
    service_token_roles: tuple[str, ...] = option(
        ("service",), "The token of a service that asks for a user needs one of these roles."
    )
    service_token_roles_required: bool = option(
        True,
        "False: any token is taken for a service's; without the role it still gives no rights.",
    )
    www_authenticate_uri: str | None = option(
        None, "Where clients are told to get a token; null: at the first of the URLs."
    )


@attrs.frozen(kw_only=True)
class AuthOptions:
    mode: Literal[
        "none", "basic", "tokens", "keystone", "client_certificate", "trusted_headers"
    ] = option(
        "none",
        "none: no questions asked; basic: user and password; tokens: static tokens; keystone:"
        " tokens of Keystone; client_certificate: TLS certificates; trusted_headers: a proxy in"
        " front says who it is.",
    )
    none: NoAuthOptions = option(NoAuthOptions, "For the mode none.")
    basic: BasicAuthOptions = option(BasicAuthOptions, "For the mode basic.")
    tokens: TokenAuthOptions = option(TokenAuthOptions, "For the mode tokens.")
    keystone: KeystoneAuthOptions = option(KeystoneAuthOptions, "For the mode keystone.")
    client_certificate: CertificateAuthOptions = option(
        CertificateAuthOptions, "For the mode client_certificate, which needs server.tls.client_ca."
    )
    trusted_headers: TrustedHeadersOptions = option(
        TrustedHeadersOptions, "For the mode trusted_headers."
    )
    anonymous_read: bool = option(
        False, "Whether one without an identity may look at public images."
    )
    clear_text: bool = option(
        False,
        "Allow the modes basic and tokens without TLS on addresses other than loopback: whoever"
        " is on the way can then read the passwords and tokens.",
    )
