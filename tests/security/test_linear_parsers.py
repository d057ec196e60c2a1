"""What is read from outside costs no more than its length: each parser, hostile inputs, two sizes.

`tests/security/test_patterns.py` looks at the regular expressions themselves.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.python.failure import Failure

from imgservice.api.middleware.auth_token import TrustedHeaders
from imgservice.api.middleware.authorization import authorization
from imgservice.api.middleware.basic import _decoded
from imgservice.api.middleware.browsers import KnownHosts, SameOrigin
from imgservice.api.middleware.cors import Cors
from imgservice.api.middleware.gzip import accepts_gzip
from imgservice.api.middleware.proxy_headers import ProxyHeaders
from imgservice.api.middleware.request_id import RequestId
from imgservice.api.middleware.version import VersionNegotiation
from imgservice.api.v2.data import _preferred
from imgservice.api.v2.documents import new_image
from imgservice.api.v2.json_schemas.custom import CustomProperties
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.api.v2.json_schemas.schema_file import SchemaFileError
from imgservice.api.v2.listing import Paging, image_query, links, parse_query, split_values
from imgservice.api.v2.patches import reader_of
from imgservice.auth import htpasswd, users_file
from imgservice.auth.certificates import subject_name
from imgservice.auth.keystone import access_rules
from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.context import Context
from imgservice.domain.errors import ImageServiceError, Invalid
from imgservice.domain.format_rules import FormatRules
from imgservice.domain.formats import FormatCheck
from imgservice.domain.location_urls import is_encrypted, parse_location, public_url
from imgservice.domain.locations import read_location
from imgservice.domain.patch import split_pointer
from imgservice.domain.protections import Protected
from imgservice.domain.storable import LONGEST_NAME
from imgservice.domain.units import Secret
from imgservice.domain.url_filter import LONGEST_URL, read_url
from imgservice.glance_config import ini
from imgservice.http import conditional
from imgservice.http.body import decode_json
from imgservice.http.errors import error_response
from imgservice.http.networks import networks
from imgservice.http.ranges import wanted_range
from imgservice.net.tls import authorities
from imgservice.pem import _CERTIFICATE
from imgservice.policy.files import Sources
from imgservice.policy.property_protections import read_protections, roles_permission
from imgservice.process.tls.material import _KEY
from tests.http.offline import offline_request, passed
from tests.security.adversary import Parser, superlinear

LINE = 16 << 10
"""`server.max_header_line`."""
BODY = 256 << 10
"""A quarter of the longest JSON document: what grows too fast shows as well."""
FILE = 64 << 10
"""The operator's own files have no limit; so much is a large one."""
PEER = "10.0.0.1"
PROXIES = networks(["10.0.0.0/8", "127.0.0.0/8"])
REFUSALS = (ImageServiceError, ValueError, Unreadable, ini.IniError)

EXPRESSIONS = (
    "^([a-z]+_?)*$", "(a|a)*b", "(.*a){12}", ".*.*.*=", "(x+x+)+y", r"^(\d+)*:", ".*[ ,]x.*", 
    "^a*!",
)  # fmt: skip
"""Of an operator, who did not think of hostile names."""


def query(raw: str) -> object:
    pairs = parse_query(raw.encode())
    image_query(pairs, Context(), Paging())
    return links(pairs, "an-id")


def header(name: str, read: Callable[[Any], object], more: tuple[str, str] = ("A", "b")) -> Any:
    def run(value: str) -> object:
        return read(
            offline_request("/v2/images", more, (name, value.encode()), peer=PEER, method="PUT")
        )

    return run


def step(one: Any) -> Callable[[Any], object]:
    return partial(passed, one)


def vmdk(text: str) -> None:
    check = FormatCheck("vmdk", "bare", FormatRules())
    data = f'# Disk DescriptorFile\ncreateType="monolithicSparse"\n{text}'.encode()
    for start in range(0, len(data), 64 << 10):
        check.feed(data[start : start + (64 << 10)])
    check.finish()


def error(request: Any) -> object:
    return error_response(request, Failure(Invalid("no")))


def has_tag(request: Any) -> object:
    validators = conditional.Validators('"x"')
    conditional.wants_part(request, validators)
    return conditional.is_known(request, validators)


def schemas() -> ImageSchemas:
    patterns = {f"p{n}": {"type": "string", "pattern": one} for n, one in enumerate(EXPRESSIONS)}
    formats = ("date-time", "email", "hostname", "ipv4", "ipv6", "uri", "date", "time")
    return ImageSchemas(
        ["raw"],
        ["bare"],
        CustomProperties(patterns | {one: {"type": "string", "format": one} for one in formats}),
    )


SCHEMAS = schemas()


def properties(text: str) -> None:
    """Check the text as each of the properties; an error ends the check of one only."""
    for name in SCHEMAS.custom.properties:
        with contextlib.suppress(*REFUSALS):
            new_image({name: text, "id": text, "tags": [text]}, SCHEMAS)


PARSERS = {
    "query": Parser(query, LINE, ("", "name=in:", "name=in:%22", "sort=", "created_at=gt:", "size=",
                                  "tag=", "limit=", "changed=", "sort_key=name&sort_dir=asc&")),
    "values": Parser(split_values, LINE, ("", '"', '"a"')),
    "prefer": Parser(
        lambda text: _preferred(offline_request(f"/v2/images/a/file?prefer={text}")), LINE
    ),
    "range": Parser(lambda text: wanted_range(text, None, 100), LINE, ("", "bytes=", "bytes=1-")),
    "content-range": Parser(
        lambda text: wanted_range(None, text, 100), LINE, ("", "bytes ", "bytes 1-2/", "bytes 1")
    ),
    "forwarded": Parser(header("Forwarded", step(ProxyHeaders(PROXIES))), LINE, ("", 'for="', "a")),
    "x-forwarded-for": Parser(header("X-Forwarded-For", step(ProxyHeaders(PROXIES))), LINE),
    "x-forwarded-prefix": Parser(header("X-Forwarded-Prefix", step(ProxyHeaders(PROXIES))), LINE),
    "x-forwarded-host": Parser(header("X-Forwarded-Host", step(ProxyHeaders(PROXIES))), LINE),
    "if-none-match": Parser(header("If-None-Match", has_tag), LINE, ("", '"a"', 'W/"', '"')),
    "if-range": Parser(header("If-Range", has_tag), LINE, ("", 'W/"')),
    "if-modified-since": Parser(conditional.read_date, LINE, ("", "Mon, 01 Jan 2026 ", "Mon")),
    "accept": Parser(header("Accept", error), LINE, ("", "text/html;q=", 'text/html;a="')),
    "accept-encoding": Parser(accepts_gzip, LINE, ("", "gzip;q=", 'gzip;a="')),
    "content-type": Parser(reader_of, LINE),
    "basic": Parser(lambda text: _decoded(text.encode()), LINE),
    "authorization": Parser(
        header("Authorization", lambda one: authorization(one, b"basic", "")), LINE, ("", "Basic ")
    ),
    "roles": Parser(
        header("X-Roles", step(TrustedHeaders(PROXIES)), ("X-Identity-Status", "Confirmed")), LINE
    ),
    "host": Parser(header("Host", KnownHosts((), "it")), LINE, ("", "[")),
    "origin": Parser(header("Origin", SameOrigin(("http://a",), None)), LINE, ("", "http://")),
    "cors": Parser(
        header("Access-Control-Request-Headers", step(Cors(["*"], True, 1)), ("Origin", "http://a")),
        LINE,
    ),
    "request id": Parser(header("X-OpenStack-Request-Id", step(RequestId(64))), LINE),
    "version": Parser(header("Accept", step(VersionNegotiation(None, None))), LINE),
    "path": Parser(
        lambda text: passed(VersionNegotiation(None, None), offline_request(f"/{text}")),
        LINE,
        ("", "v2/"),
    ),
    "body": Parser(lambda text: decode_json(text.encode()), BODY, ("", '"', "[")),
    "pointer": Parser(split_pointer, BODY, ("", "/")),
    "image": Parser(properties, 64 << 10),
    "location": Parser(lambda text: read_location({"url": text}), LONGEST_URL),
    "location's metadata": Parser(
        lambda text: read_location({"url": "http://a", "metadata": {text: text}}), BODY
    ),
    "url": Parser(read_url, LONGEST_URL, ("", "http://", "http://a/", "http://[")),
    "redirect": Parser(read_url("http://a/b/c").redirected, 32 << 10, ("", "//", "/", "http://")),
    "place": Parser(
        parse_location, LONGEST_URL,
        ("", "s3://", "swift://", "rbd://", "cinder://", "vsphere://", "vsphere://a/b?", "file://"),
    ),
    "public url": Parser(public_url, LONGEST_URL, ("", "s3://", "swift+config://", "http://")),
    "encrypted url": Parser(is_encrypted, LONGEST_URL),
    "access rule's path": Parser(
        lambda text: access_rules.matches("/v2/**/a*/{b}/**", text), access_rules.LONGEST_PATH
    ),
    "access rule": Parser(
        lambda text: access_rules.matches(text, "/v2/images/" + "a" * 1000), 2048, ("", "/v2/")
    ),
    "vmdk": Parser(vmdk, BODY, ("", "RW ", 'createType="')),
    "secret": Parser(lambda text: repr(Secret(text)), FILE, ("", "http://", "http://a:")),
    "certificate's subject": Parser(subject_name, 4096, ("", "CN=")),
    "ini": Parser(lambda text: ini.parse(text, "a file"), FILE, ("", "[a]\n", "[a]\na=")),
    "ini references": Parser(
        lambda text: ini.Given(ini.parse(f"[a]\nb={text}", "f")).expand(
            ini.Assignment("f", 1, "a", "b", text)
        ),
        FILE,
    ),
}  # fmt: skip


def survived(read: Callable[[str], object]) -> Callable[[str], object]:
    """Return what takes a refusal for an answer, as good as any."""

    def run(text: str) -> None:
        with contextlib.suppress(*REFUSALS):
            read(text)

    return run


@pytest.mark.parametrize("name", PARSERS)
def test_cost_grows_with_the_length(name: str) -> None:
    parser = PARSERS[name]
    assert superlinear(Parser(survived(parser.read), parser.longest, parser.prefixes)) == []


@pytest.mark.parametrize("kind", ["users", "policy", "protections", "htpasswd", "authorities"])
def test_cost_of_a_file_grows_with_its_length(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    readers: dict[str, Callable[[], object]] = {
        "users": lambda: users_file.read_users(file),
        "policy": lambda: Sources(file).read(),
        "protections": lambda: read_protections(file, roles_permission),
        "htpasswd": lambda: htpasswd.read_htpasswd(file),
        "authorities": lambda: authorities(str(file)),
    }

    def read(text: str) -> object:
        file.write_text(text)
        return readers[kind]()

    parser = Parser(survived(read), 4 << 10, ("a: " if kind == "policy" else "",), ("",))
    assert superlinear(parser) == []


@pytest.mark.parametrize("pattern", [_CERTIFICATE, _KEY])
def test_pem_blocks_that_do_not_end(pattern: Any) -> None:
    begin = "-----BEGIN A PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----"
    for one in begin:
        parser = Parser(lambda text: pattern.findall(text.encode()), FILE, (one, one * 500))
        assert superlinear(parser) == []


@pytest.mark.parametrize("expression", [*EXPRESSIONS, "^.*a.*!", "^(?!.*a!).*$", "^(?!x_|a).*"])
def test_protected_names(expression: str, tmp_path: Path) -> None:
    """No operator's expression makes a name dear; none that no image can have is matched."""
    sections = f"[{expression}]\ncreate=@\nread=@\nupdate=@\ndelete=@\n"
    (tmp_path / "file").write_text(sections)
    rules: Protected = read_protections(tmp_path / "file", roles_permission)

    def read(name: str) -> bool:
        return rules.may(Context(), "read", name)

    for longest in (LONGEST_NAME - 5, LINE):
        assert superlinear(Parser(read, longest, ("", "x_", "xx"))) == []


def test_only_so_many_access_rules_are_looked_at() -> None:
    other, fitting = (access_rules.AccessRule("image", "GET", path) for path in ("/**x", "/v2/**"))
    foreign = access_rules.AccessRule("image", "POST", "/v2/**")
    for number, is_allowed in ((0, True), (255, True), (256, False), (100_000, False)):
        rules = [*[foreign] * 1000, *[other] * number, fitting]
        assert access_rules.permits(rules, "GET", "/v2/images/a") is is_allowed
    assert not access_rules.permits([fitting], "GET", "/v2/" + "a" * access_rules.LONGEST_PATH)


def test_deep_json_is_refused() -> None:
    for deep in ("[" * 500_000, '{"a":' * 200_000, "[" * 500_000 + "]" * 500_000):
        with pytest.raises(Invalid):
            decode_json(deep.encode())


def test_a_pattern_that_nothing_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the pattern \(a\+\)\+\\1 repeats so much"):
        ImageSchemas(["raw"], ["bare"], CustomProperties({"a": {"pattern": r"(a+)+\1"}}))
    assert issubclass(SchemaFileError, Unreadable)  # what is told at the start, and in the log
