"""The policy language: oslo.policy parses it, and this module compiles the result to functions.

Evaluating the library's own trees takes several times as long. Importing this module imports
oslo.policy, which takes a third of a second: import it only where there are policy files.
"""

import ast
import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from oslo_config import cfg
from oslo_policy import policy

from imgservice.policy.files import Text
from imgservice.policy.subjects import Credentials

if TYPE_CHECKING:
    from oslo_policy._checks import BaseCheck

Check: TypeAlias = "BaseCheck"
"""One of the library's trees."""
Names = Mapping[str, object]
"""What `%(NAME)s` stands for."""
Decide = Callable[[Names, Credentials], bool]

DEEPEST = 50
"""How deep parentheses and `not` may be nested: library and functions recurse into each."""
_WORDS = re.compile(r"[()]|[^\s()]++")
_REMOTE = ("http", "https")
_ROLE = type(policy.RuleDefault("it", "role:x").check)
_GENERIC = type(policy.RuleDefault("it", "x:y").check)


class NotUnderstood(Exception):
    """The text is not in the policy language, or needs something that is not supported."""


def parse(text: Text) -> Check:
    """Return the tree of a check; `NotUnderstood`."""
    if isinstance(text, str) and _nesting(text) > DEEPEST:
        raise NotUnderstood(f"nested more than {DEEPEST} deep")
    with _collected_warnings() as complaints:
        check = policy.Rules.from_dict({"it": text})["it"]  # type: ignore[dict-item]
    if complaints:
        raise NotUnderstood("; ".join(dict.fromkeys(complaints)))
    for leaf in leaves(check):
        if getattr(leaf, "kind", None) in _REMOTE:
            raise NotUnderstood(f"{leaf}: checks that ask another server are not supported")
    return check


def _nesting(text: str) -> int:
    """Return how deep parentheses and `not` are nested."""
    pending: list[str] = []
    deepest = 0
    for word in _WORDS.findall(text.lower()):
        if word in ("(", "not"):
            pending.append(word)
            deepest = max(deepest, len(pending))
            continue
        while word == ")" and pending and pending.pop() != "(":
            pass
        while pending and pending[-1] == "not":
            pending.pop()
    return deepest


def depth(check: Check) -> int:
    """Return how deep the checks are nested."""
    return 1 + max(map(depth, _parts(check)), default=0)


def _parts(check: Check) -> Sequence[Check]:
    if isinstance(check, policy.NotCheck):
        return [check.rule]
    return check.rules if isinstance(check, policy.AndCheck | policy.OrCheck) else ()


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect the library's warnings: it logs a check that it cannot parse, and denies it."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("oslo_policy")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def leaves(check: Check) -> Iterator[Check]:
    """Yield the checks that are not made of others."""
    parts = _parts(check)
    if not parts:
        yield check
    for part in parts:
        yield from leaves(part)


def references(check: Check) -> Sequence[str]:
    """Return the names of the rules that the check refers to."""
    return [leaf.match for leaf in leaves(check) if isinstance(leaf, policy.RuleCheck)]


def role(check: Check) -> str | None:
    """Return the role that a check requires by name, if it does."""
    if not _is_a(check, _ROLE) or "%(" in check.match:
        return None
    return check.match


def credential(check: Check) -> str | None:
    """Return what a check asks about the caller, other than roles, if it does."""
    if not _is_a(check, _GENERIC):
        return None
    try:
        ast.literal_eval(check.kind)
    except (ValueError, SyntaxError):
        return check.kind.partition(".")[0]
    return None


def _is_a(check: Check, kind: type[Check]) -> TypeGuard[policy.Check]:
    """Tell whether a check is of exactly this kind: other packages' kinds may extend it."""
    return type(check) is kind


def faults(check: Check, names: Names, credentials: Credentials) -> Iterator[str]:
    """Try a check that is not made of others, and yield why it cannot be decided, if so."""
    if not (_is_a(check, _GENERIC) or _is_a(check, _ROLE)):
        return
    try:
        check(names, credentials, _without_rules())
    except Exception as error:
        yield f"{check} cannot be decided: {error}"


def either(one: Check, other: Check) -> Check:
    return policy.OrCheck([one, other])


def write(check: Check) -> str:
    """Return the check in the policy language."""
    text = str(check)
    if text == "@":
        return ""
    return text[1:-1] if isinstance(check, policy.OrCheck | policy.AndCheck) else text


def _enforcer(rules: Mapping[str, Check]) -> policy.Enforcer:
    """Return what the library passes to checks; those of other packages may look at the rules."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return policy.Enforcer(conf, rules=dict(rules), use_conf=False)


@cache
def _without_rules() -> policy.Enforcer:
    return _enforcer({})


class Compiler:
    """Turns trees into functions; they may refer to one another, but not in a circle."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._enforcer = _enforcer(checks)
        self._done: dict[str, Decide] = {}

    def compile(self, name: str) -> Decide:
        """Return the function that decides the rule."""
        if name not in self._done:
            self._done[name] = self._function(self._checks[name], name)
        return self._done[name]

    def _function(self, check: Check, rule: str) -> Decide:
        if isinstance(check, policy.RuleCheck):
            return self.compile(check.match)
        if isinstance(check, policy.AndCheck):
            return _all([self._function(part, rule) for part in check.rules])
        if isinstance(check, policy.OrCheck):
            return _any([self._function(part, rule) for part in check.rules])
        if isinstance(check, policy.NotCheck):
            return _not(self._function(check.rule, rule))
        return self._leaf(check, rule)

    def _leaf(self, check: Check, rule: str) -> Decide:
        if str(check) in ("@", "!"):
            return yes if str(check) == "@" else no
        if _is_a(check, _GENERIC) and check.kind == credential(check):
            return _compare(check.kind, check.match)
        enforcer = self._enforcer
        if len(inspect.signature(check).parameters) > 3:
            return lambda names, credentials: check(names, credentials, enforcer, rule)
        return lambda names, credentials: check(names, credentials, enforcer)


def yes(names: Names, credentials: Credentials) -> bool:
    return True


def no(names: Names, credentials: Credentials) -> bool:
    return False


def _compare(asked: str, pattern: str) -> Decide:
    """Decide `user_id:%(owner)s` as the library does, without parsing it each time."""

    def decide(names: Names, credentials: Credentials) -> bool:
        try:
            wanted, known = pattern % names, credentials[asked]
        except KeyError:
            return False
        if isinstance(known, list):
            return any(wanted == str(each) for each in known)
        return wanted == str(known)

    return decide


def _all(parts: Sequence[Decide]) -> Decide:
    if no in parts:
        return no
    undecided = [part for part in parts if part is not yes]
    if not undecided:
        return yes
    return lambda names, credentials: all(part(names, credentials) for part in undecided)


def _any(parts: Sequence[Decide]) -> Decide:
    if yes in parts:
        return yes
    undecided = [part for part in parts if part is not no]
    if not undecided:
        return no
    return lambda names, credentials: any(part(names, credentials) for part in undecided)


def _not(part: Decide) -> Decide:
    if part in (yes, no):
        return no if part is yes else yes
    return lambda names, credentials: not part(names, credentials)
