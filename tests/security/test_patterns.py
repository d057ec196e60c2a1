"""Every regular expression of the service is one that cannot be made to go back and try again.

The parsers themselves are measured in `tests/security/test_linear_parsers.py`.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import imgservice
from tests.security.ambiguity import ambiguities, is_short

ROOT = Path(imgservice.__file__).parent
ANYWHERE = ("search", "findall", "finditer", "sub", "subn", "split")
CALLS = (*ANYWHERE, "match", "fullmatch", "compile")

EXAMINED = {
    ("auth.certificates", "_BLANKS"): "begins behind a separator, and none of it is one",
    ("auth.keystone.access_rules", "_PARTS"): "there is an end to every brace that it is given",
    ("auth.keystone.access_rules", "_PARTS_WITHOUT_NAMES"): "matches every character once",
    ("glance_config.ini", "_REFERENCE"): "begins with a dollar, and has no other",
    ("glance_config.values", "0*[0-7]{1,3}"): "one repeat: it gives back once",
    ("glance_config.secrets", "_IN_URL"): "begins with ://, and has no other slash",
    ("domain.location_urls", "_CREDENTIALS"): "begins at the start, or behind :// without slashes",
    ("domain.patch", r"/\s*/"): "begins with a slash, and ends at the next one",
    ("domain.patterns", "_END"): "begins behind what is no backslash, and the operator writes it",
    ("domain.url_filter", "[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?"): "one repeat: it gives back once",
    ("pem", "_CERTIFICATE"): "begins with dashes, and has none",
    ("policy.checks", "_WORDS"): "matches whatever is no blank, up to where it goes on",
    ("config.forms", "_PATH_PREFIX"): "a slash tells, and the operator writes it",
    ("process.addresses", "_HOST_AND_PORT"): "the operator writes it, in a line",
    ("process.addresses", r"^(interface=)\[(.*)\]$"): "the operator writes it, in a line",
    ("process.tls.material", "_KEY"): "begins with five dashes, and has no other five",
    ("policy.property_protections", r"f'{key}\\s*[=:]'"): "of a line that the operator wrote",
    ("http.conditional", "_TAG"): "of texts in which quotes are known to pair up",
    ("http.route", "_VARIABLE"): "of our own routes",
    (
        "api.middleware.proxy_headers",
        "_PAIR",
    ): "matches wherever it is asked, up to where it goes on",
}
"""What the rules below do not see to be harmless, and why it is."""


@attrs.frozen
class Found:
    """An expression in the source."""

    module: str
    name: str
    """Of the constant that it is compiled to, else the expression itself."""
    method: str
    pattern: str | bytes | None
    """None for what is put together while the program runs."""
    flags: int = 0

    @property
    def faults(self) -> list[str]:
        if self.pattern is None:
            return ["put together while the program runs"]
        found = ambiguities(self.pattern, self.flags)
        if self.method in ANYWHERE and not is_short(self.pattern, self.flags):
            found.append("long, and searched for from every place")
        return found


def expressions() -> Iterator[Found]:
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        source = path.read_text()
        if re.search(r"^(?:import re$|from re )", source, re.MULTILINE):
            yield from _in_module(name.removesuffix(".__init__"), ast.parse(source))


def _in_module(module: str, tree: ast.Module) -> Iterator[Found]:
    compiled = importlib.import_module(f"imgservice.{module}")
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, method = node.func.value, node.func.attr
        if not isinstance(owner, ast.Name) or method not in CALLS:
            continue
        value = getattr(compiled, owner.id, None)
        if isinstance(value, re.Pattern):
            yield Found(module, owner.id, method, value.pattern, value.flags & ~re.DEBUG)
        elif owner.id == "re" and method != "compile":
            yield _inline(module, method, node.args[0])
    for name, value in vars(compiled).items():
        if isinstance(value, re.Pattern):
            yield Found(module, name, "match", value.pattern, value.flags)


def _inline(module: str, method: str, argument: ast.expr) -> Found:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str | bytes):
        return Found(module, str(argument.value), method, argument.value)
    return Found(module, ast.unparse(argument), method, None)


EXPRESSIONS = list(expressions())


def test_there_are_some() -> None:
    assert len({(one.module, one.name) for one in EXPRESSIONS}) > 30


@pytest.mark.parametrize(
    "one", EXPRESSIONS, ids=lambda one: f"{one.module}:{one.name}:{one.method}"
)
def test_expression_goes_forward_only(one: Found) -> None:
    assert not one.faults or (one.module, one.name) in EXAMINED, one


def test_what_was_examined_is_still_there_and_needs_it() -> None:
    needed = {(one.module, one.name) for one in EXPRESSIONS if one.faults}
    assert EXAMINED.keys() - needed == set()


@pytest.mark.parametrize(
    "pattern",
    [
        r'\s*(?:"((?:[^"\\]|\\.)*)"|([^",]*))\s*(?:,|$)', r"bytes=\s*(\d*)\s*-", "(a+)+b",
        "(a|a)*b", "(?:a?b?)*c", ".*.*x", "(?:[ab]c?|b)*d", ".+?-----END", r"(?:a*)*b",
        r"a*(?=a)a*b", rb"\w*\d*x",
    ],
)  # fmt: skip
def test_what_goes_back_is_seen(pattern: str | bytes) -> None:
    assert ambiguities(pattern, re.DOTALL) != []


@pytest.mark.parametrize(
    "pattern",
    [
        r'\s*+(?:"((?:[^"\\]|\\.)*+)"\s*+|([^",]*+))(?:,|\Z)', r"a*b", "(?:/[a-z]+)*", "(a|b)*c",
        r"(?:a*+b)*c", r"\d{0,30}\d*x", ".*", rb"[^-]+-----",
    ],
)  # fmt: skip
def test_what_goes_forward_is_seen(pattern: str | bytes) -> None:
    assert ambiguities(pattern) == []
