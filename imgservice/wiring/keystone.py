"""From the configuration to what asks Keystone."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred

from imgservice.api.middleware.keystone import KeystoneToken, challenge_of
from imgservice.auth.keystone.tokens import TROUBLE as VALIDATION
from imgservice.auth.keystone.tokens import WHAT, KeystoneTokens, TokenRules
from imgservice.concurrency.file_watch import Unreadable, read_text
from imgservice.concurrency.reactor import Reactor
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.config.sections.keystone import KeystoneAuthOptions
from imgservice.domain.units import Secret
from imgservice.keystone import credentials
from imgservice.keystone.client import TROUBLE as CONNECTION
from imgservice.keystone.client import KeystoneClient
from imgservice.keystone.credentials import Credentials, IssuedToken, OwnToken, TokenFile
from imgservice.keystone.documents import Document
from imgservice.keystone.errors import CredentialsRefused, KeystoneError
from imgservice.keystone.urls import v3_url
from imgservice.net.tls import TlsPolicy, tls_policy
from imgservice.process.probes import Probe
from imgservice.troubles import Troubles
from imgservice.wiring.watched import watched_file

PLACE = ("auth", "keystone")


def make_keystone_tokens(
    config: Config, reactor: Reactor, troubles: Troubles | None = None
) -> KeystoneTokens:
    """Make what validates tokens; asks nothing yet. `OptionError` for options that do not fit."""
    options = config.auth.keystone
    client, own = make_keystone_client(config, reactor, "auth.mode keystone", troubles)
    rules = TokenRules(
        timeout=options.timeout,
        cache_time=options.cache_time,
        cache_size=options.cache_size,
        connections=options.connections,
    )
    return KeystoneTokens(reactor, client, own, rules)


def make_keystone_client(
    config: Config, reactor: Reactor, who: str, troubles: Troubles | None = None
) -> tuple[KeystoneClient, OwnToken]:
    """Make a client for Keystone, and our token; `who` names the option that needs them."""
    options = config.auth.keystone
    urls = [_base(url) for url in options.url]
    if not urls:
        raise OptionError((*PLACE, "url"), f"is needed by {who}")
    client = KeystoneClient(
        reactor, urls, _tls(options), options.connections, options.timeout, troubles
    )
    return client, _own_token(options, client)


def make_keystone_step(config: Config, tokens: KeystoneTokens) -> KeystoneToken:
    options = config.auth.keystone
    roles = frozenset(role.lower() for role in options.service_token_roles)
    required = options.service_token_roles_required
    return KeystoneToken(tokens, roles, required)


def keystone_challenge(options: KeystoneAuthOptions) -> str:
    return challenge_of(options.www_authenticate_uri or options.url[0])


class KeystoneConnections:
    """A component: asks Keystone at the start whether it works, and closes connections at the end.

    So a mistake is reported before the first request, which finds our own token at hand.
    """

    def __init__(
        self, client: KeystoneClient, check: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        self._client = client
        self._check = check

    def start(self) -> None:
        Deferred.fromCoroutine(self._checked())

    async def stop(self) -> None:
        await self._client.close()

    async def _checked(self) -> None:
        with suppress(KeystoneError):  # which is reported
            await self._check()


def keystone_probe(asked: KeystoneClient, timeout: float) -> Probe:
    return Probe(CONNECTION, asked.what, lambda _: asked.probe(timeout), only_in_trouble=True)


def keystone_probes(validation: KeystoneTokens) -> Sequence[Probe]:
    """Return probes that tell when Keystone works again; that it fails, requests find out."""

    async def see_that_it_answers(_: bool) -> None:
        with suppress(CredentialsRefused):  # which is the other probe's affair
            await validation.check()

    return [
        Probe(CONNECTION, validation.client.what, see_that_it_answers, only_in_trouble=True),
        Probe(VALIDATION, WHAT, lambda _: validation.check(), only_in_trouble=True),
    ]


def keystone_mistake(error: KeystoneError, options: KeystoneAuthOptions) -> OptionError:
    """Return the error that `imgservice check` shows."""
    if not isinstance(error, CredentialsRefused):
        return OptionError((*PLACE, "url"), error.reason)
    name = "application_credential_secret" if options.application_credential_id else "password"
    return OptionError((*PLACE, "token_file" if options.token_file else name), error.reason)


def _base(url: str) -> str:
    try:
        return v3_url(url)
    except ValueError as error:
        raise OptionError((*PLACE, "url"), str(error)) from None


def _tls(options: KeystoneAuthOptions) -> TlsPolicy:
    try:
        return tls_policy(options.ca_file, verify=not options.insecure)
    except ValueError as error:
        raise OptionError((*PLACE, "ca_file"), str(error)) from None


def _own_token(options: KeystoneAuthOptions, client: KeystoneClient) -> OwnToken:
    kinds = {
        "username": options.username,
        "application_credential_id": options.application_credential_id,
        "token_file": options.token_file,
    }
    given = [name for name, value in kinds.items() if value]
    if len(given) != 1:
        found = f"there are {' and '.join(given)}" if given else "there is none"
        raise OptionError(
            PLACE, f"needs exactly one of {', '.join(kinds)} for our own credentials; {found}"
        )
    if options.token_file:
        return _token_file(options.token_file)
    timeout = options.timeout / 2
    return IssuedToken(client, _credentials(options), timeout)


def _credentials(options: KeystoneAuthOptions) -> Credentials:
    if options.application_credential_id:
        secret = _needed(options.application_credential_secret, "application_credential_secret")
        return credentials.application_credential(options.application_credential_id, secret)
    secret = _needed(options.password, "password")
    user_domain = _domain(options.user_domain, options.user_domain_id)
    project_domain = _domain(options.project_domain, options.project_domain_id)
    scope: Document = {"system": {"all": True}}
    if options.project is not None:
        scope = {"project": {"name": options.project, "domain": project_domain}}
    return credentials.password(options.username or "", secret, user_domain, scope)


def _needed(secret: Secret | None, name: str) -> Secret:
    if secret is None or not secret.reveal():
        raise OptionError((*PLACE, name), "is missing")
    return secret


def _domain(name: str, id_: str | None) -> Mapping[str, str]:
    return {"id": id_} if id_ else {"name": name}


def _token_file(file: str) -> TokenFile:
    def read(path: Path) -> str:
        token = read_text(path).strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise Unreadable(f"{path}: expected a token and nothing else")
        return token

    return TokenFile(watched_file((*PLACE, "token_file"), file, read))
