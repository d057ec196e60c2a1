"""The options of a store in Swift."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import attrs

from imgservice.domain.options import Form, Mistake, option, section
from imgservice.domain.units import Duration, Secret, Size
from imgservice.keystone.urls import v3_url
from imgservice.net.tls import authorities
from imgservice.store.registry import StoreConfig
from imgservice.store.swift.references import read_references

LARGEST_OBJECT = 5 << 30
"""What Swift takes in one piece, unless its operator has changed that."""
Auth = Literal["keystone", "v1"]


_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_REFERENCE = re.compile(r"[A-Za-z0-9._~-]+")
_STORAGE_URL = re.compile(r"https?://[!-?A-~]+")


def _if(matches: Callable[[str], object]) -> Callable[[str], None]:
    def read(text: str) -> None:
        if not matches(text):
            raise ValueError(text)

    return read


CONTAINER = Form("a name of letters, digits and ._~-", _if(_CONTAINER.fullmatch))
REFERENCE = Form("a name of letters, digits and ._~-", _if(_REFERENCE.fullmatch))
STORAGE_URL = Form("a URL such as https://swift/v1/AUTH_1", _if(_STORAGE_URL.fullmatch))


@attrs.frozen(kw_only=True)
class ApplicationCredential:
    """Of Keystone, in place of a user and a key."""

    id: str | None = option(None, "Its id.")
    secret: Secret | None = option(None, "Its secret.")


@attrs.frozen(kw_only=True, slots=False)  # with slots, it could not be a second base class
class AccountOptions:
    """An account, and the credentials for it."""

    auth_url: str | None = option(
        None, "URL of Keystone, such as https://keystone:5000/v3, or with auth v1, of that service."
    )
    auth: Auth = option(
        "keystone", "How to get tokens. v1: from a service with X-Auth-User, such as tempauth."
    )
    user: str | None = option(
        None, "The user: in Keystone, its project and its name, as in service:glance."
    )
    key: Secret | None = option(None, "The user's password.")
    application_credential: ApplicationCredential = section(
        ApplicationCredential, "An application credential of Keystone, in place of user and key."
    )
    user_domain: str | None = option(None, "Name of the user's domain.")
    user_domain_id: str | None = option(
        None, "Id of the user's domain. null: as its name says, or else default."
    )
    project_domain: str | None = option(None, "Name of the project's domain.")
    project_domain_id: str | None = option(
        None, "Id of the project's domain. null: as its name says, or else default."
    )

    def contradictions(self) -> Iterator[Mistake]:
        if self.auth_url is not None:
            yield from account_mistakes(self)


@attrs.frozen(kw_only=True)
class SwiftConfig(StoreConfig, AccountOptions):
    """The options of a store of type `swift`."""

    reference: str = option(
        "ref1",
        "Which account takes new images, by the name that stands for it in URLs. It is one of"
        " references, or of the file, or the one of auth_url.",
        form=REFERENCE,
    )
    references: Mapping[str, AccountOptions] = section(
        dict, "Further accounts, by the names that stand for them in URLs."
    )
    references_file: str | None = option(
        None, "A file of accounts as Glance has it (swift_store_config_file)."
    )
    container: str = option(
        "glance", "The container of the images, or the beginning of its name.", form=CONTAINER
    )
    container_seed: int = option(
        0,
        "Characters of an image's id that complete the name of its container. 0: there is one"
        " container.",
        ge=0,
        le=32,
    )
    create_container: bool = option(False, "Create containers that do not exist.")
    region: str | None = option(None, "Region of the endpoint. null: any.")
    interface: Literal["public", "internal", "admin"] = option(
        "public", "Interface of the endpoint."
    )
    service_type: str = option("object-store", "Type of the service in the catalog.")
    endpoint: str | None = option(
        None, "URL of the account in Swift, in place of the catalog's.", form=STORAGE_URL
    )
    segment_from: Size = option(
        Size(5_242_880_000),
        "Images of at least this size are stored in segments, and so are those of unknown size.",
        ge=1,
        le=LARGEST_OBJECT,
    )
    segment_size: Size = option(Size(204_800_000), "Size of a segment.", ge=1, le=LARGEST_OBJECT)
    retry_memory: Size = option(
        Size(8 << 20),
        "Bytes of an object or segment that are kept while it is sent, to send it again. Once more"
        " than that was sent, a failure of Swift ends the upload. Many uploads share 64 MiB.",
    )
    large_objects: Literal["dlo", "slo"] = option(
        "dlo",
        "How segments become one object: as dynamic large objects, as Glance's, or as static ones.",
    )
    read_retries: int = option(
        5, "How often an interrupted download is resumed in a row without a byte of progress.", ge=0
    )
    token_margin: Duration = option(
        Duration(60), "A token is renewed at least so long before it expires."
    )
    connections: int = option(
        16, "Connections that are kept for later requests, at most.", ge=1, le=1000
    )
    connect_timeout: Duration = option(Duration(10), "Timeout of a connection attempt.", gt=0)
    timeout: Duration = option(
        Duration(60), "Timeout of an answer, and of each piece of data in both directions.", gt=0
    )
    ca_file: str | None = option(
        None, "PEM file with the authorities to trust. null: those of the system."
    )
    insecure: bool = option(False, "Do not verify certificates, neither Keystone's nor Swift's.")

    def __attrs_post_init__(self) -> None:
        authorities(self.ca_file)
        if self.reference not in self.accounts():
            raise ValueError(
                "needs auth_url with user and key, or a reference that is one of references or of"
                f" references_file; there is none named {self.reference!r}"
            )

    def contradictions(self) -> Iterator[Mistake]:
        yield from super().contradictions()
        if self.insecure and self.ca_file:
            yield ["ca_file"], "contradicts insecure: true"
        for name, account in self.references.items():
            if account.auth_url is None:
                yield ["references", name, "auth_url"], "is missing"

    def accounts(self) -> Mapping[str, AccountOptions]:
        """Return all accounts by the names of their references."""
        own = {} if self.auth_url is None else {self.reference: self}
        return {**self._from_file(), **self.references, **own}

    def _from_file(self) -> Mapping[str, AccountOptions]:
        if self.references_file is None:
            return {}
        found = read_references(self.references_file)
        return {name: _account(name, values) for name, values in found.items()}

    def details(self) -> Mapping[str, object]:
        return {
            "container": self.container,
            "large_object_size": self.segment_from,
            "large_object_chunk_size": self.segment_size,
        }


def account_mistakes(account: AccountOptions) -> Iterator[Mistake]:
    """Yield what is wrong with an account that has an `auth_url`."""
    credential = account.application_credential
    if complaint := _url_complaint(account):
        yield ["auth_url"], complaint
    if credential.id is None and credential.secret is None:
        yield from _user_mistakes(account)
        return
    if account.auth == "v1":
        yield ["application_credential"], "is Keystone's: it does not go with auth: v1"
    for name, value in (("id", credential.id), ("secret", credential.secret)):
        if value is None:
            yield ["application_credential", name], "is missing"
    if account.user is not None or account.key is not None:
        yield ["application_credential"], "stands in place of user and key: give one of them"


def _url_complaint(account: AccountOptions) -> str | None:
    try:
        v3_url(account.auth_url or "")
    except ValueError as error:
        return str(error)
    return None


def _user_mistakes(account: AccountOptions) -> Iterator[Mistake]:
    for name, value in (("user", account.user), ("key", account.key)):
        if value is None:
            yield [name], "is missing; or give an application_credential"
    if account.auth == "keystone" and (account.user or ":").count(":") != 1:
        yield ["user"], "must be the project and the name of a user, as in service:glance"


def _account(name: str, values: Mapping[str, str]) -> AccountOptions:
    """Make an account of a section of Glance's file; `ValueError` if it is none."""
    text = values.get
    secret, key = text("application_credential_secret"), text("key")
    account = AccountOptions(
        auth_url=text("auth_address"),
        user=None if secret else text("user"),
        key=Secret(key) if key and not secret else None,
        application_credential=ApplicationCredential(
            id=text("application_credential_id") if secret else None,
            secret=Secret(secret) if secret else None,
        ),
        user_domain=text("user_domain_name"),
        user_domain_id=text("user_domain_id"),
        project_domain=text("project_domain_name"),
        project_domain_id=text("project_domain_id"),
    )
    for path, complaint in account_mistakes(account):
        where = ".".join(map(str, path)).replace("auth_url", "auth_address")
        raise ValueError(f"references_file: section {name}: {where} {complaint}")
    return account
