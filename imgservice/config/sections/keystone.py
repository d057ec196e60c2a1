"""Keystone, and the credentials with which this service talks to it."""

from collections.abc import Iterator

import attrs

from imgservice.config.forms import HEADER_URL
from imgservice.domain.options import Mistake, option
from imgservice.domain.units import Duration, Secret, Urls


@attrs.frozen(kw_only=True)
class KeystoneAuthOptions:
    url: Urls = option(
        Urls(()),
        "URL of Keystone, such as https://keystone:5000/v3, or a list of URLs, which are tried in"
        " this order.",
    )
    username: str | None = option(
        None,
        "User of this service in Keystone, with password and project. It needs the role service.",
    )
    password: Secret | None = option(None, "Password of that user.")
    project: str | None = option(
        "service", "Project in which that user has its role. null: system scope."
    )
    user_domain: str = option("Default", "Name of that user's domain.")
    user_domain_id: str | None = option(None, "Id of that user's domain, in place of its name.")
    project_domain: str = option("Default", "Name of the project's domain.")
    project_domain_id: str | None = option(
        None, "Id of the project's domain, in place of its name."
    )
    application_credential_id: str | None = option(
        None, "Id of an application credential, in place of a user and a password."
    )
    application_credential_secret: Secret | None = option(
        None, "Secret of the application credential."
    )
    token_file: str | None = option(
        None,
        "File with a token, in place of other credentials. It is read again when it changes.",
    )
    ca_file: str | None = option(
        None, "PEM file with the authorities to trust. null: those of the system."
    )
    insecure: bool = option(
        False,
        "Do not verify Keystone's certificate. Anybody on the network path can then impersonate"
        " Keystone.",
    )
    timeout: Duration = option(
        Duration(20),
        "How long a request waits for Keystone; then the response is 503 with Retry-After.",
        gt=0,
    )
    connections: int = option(8, "Maximum number of simultaneous requests to Keystone.", gt=0)
    cache_time: Duration = option(
        Duration(300),
        "How long a validated token is cached. A revoked token works for up to this time. 0: no"
        " cache.",
    )
    cache_size: int = option(10_000, "Maximum number of cached tokens.")
    service_token_roles: tuple[str, ...] = option(
        ("service",),
        "A service token, with which a service acts for a user, needs one of these roles.",
    )
    service_token_roles_required: bool = option(
        True,
        "false: accept service tokens without these roles as well; they give no extra rights.",
    )
    www_authenticate_uri: str | None = option(
        None,
        "URL at which clients are told to get a token. null: the first of the URLs above.",
        form=HEADER_URL,
    )

    def contradictions(self) -> Iterator[Mistake]:
        if self.insecure and self.ca_file:
            yield ["ca_file"], "contradicts insecure: true"
