"""The policy language: oslo.policy reads it, and here it becomes functions.

Calling the library's own trees costs several times as much as what they decide.
Importing this module imports oslo.policy, which takes a while: only where it is needed.
"""

import ast
import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from oslo_config import cfg
from oslo_policy import policy

from imgservice.policy.files import Text

Check = Any
"""One of the library's trees."""
Target = Mapping[str, Any]
Credentials = MutableMapping[str, Any]
Decide = Callable[[Target, Credentials], bool]

DEEPEST = 50
"""Parentheses and `not` within one another; library and functions call themselves for each."""
_WORDS = re.compile(r"[()]|[^\s()]++")
_REMOTE = ("http", "https")
_ROLE: Any = type(policy.RuleDefault("it", "role:x").check)
_GENERIC: Any = type(policy.RuleDefault("it", "x:y").check)


class NotUnderstood(Exception):
    """A text that is not in the policy language, or asks for what we do not do."""


def parse(text: Text) -> Check:
    """Return the tree; `NotUnderstood`."""
    if isinstance(text, str) and _nesting(text) > DEEPEST:
        raise NotUnderstood(f"nested more than {DEEPEST} deep")
    with _listening() as complaints:
        check = policy.Rules.from_dict({"it": text})["it"]  # type: ignore[dict-item]
    if complaints:
        raise NotUnderstood("; ".join(dict.fromkeys(complaints)))
    for leaf in leaves(check):
        if getattr(leaf, "kind", None) in _REMOTE:
            raise NotUnderstood(f"{leaf}: checks that ask another server are not supported")
    return check


def _nesting(text: str) -> int:
    """Return how many parentheses and `not` are open at the same time, at most."""
    ahead: list[str] = []
    deepest = 0
    for word in _WORDS.findall(text.lower()):
        if word in ("(", "not"):
            ahead.append(word)
            deepest = max(deepest, len(ahead))
            continue
        while word == ")" and ahead and ahead.pop() != "(":
            pass
        while ahead and ahead[-1] == "not":
            ahead.pop()
    return deepest


def depth(check: Check) -> int:
    """Return how many checks are within one another."""
    parts = [check.rule] if isinstance(check, policy.NotCheck) else getattr(check, "rules", ())
    return 1 + max(map(depth, parts), default=0)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what the library has to say: it logs what it does not understand, and denies."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("oslo_policy")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def leaves(check: Check) -> Iterator[Check]:
    """Walk to the checks that are made of no others."""
    parts = getattr(check, "rules", None)
    if parts is None and isinstance(check, policy.NotCheck):
        parts = [check.rule]
    if parts is None:
        yield check
    else:
        for part in parts:
            yield from leaves(part)


def references(check: Check) -> Sequence[str]:
    """Return the names of the rules that the check refers to."""
    return [leaf.match for leaf in leaves(check) if isinstance(leaf, policy.RuleCheck)]


def role(check: Check) -> str | None:
    """Return the role that a check asks for; None when it asks for none, or for one of the image's
    fields."""
    if type(check) is not _ROLE or "%(" in check.match:
        return None
    return str(check.match)


def credential(check: Check) -> str | None:
    """Return what a check asks about the asker, other than his roles; None when it is nothing."""
    if type(check) is not _GENERIC:
        return None
    try:
        ast.literal_eval(check.kind)
    except (ValueError, SyntaxError):
        return str(check.kind.partition(".")[0])
    return None


def faults(check: Check, target: Target, credentials: Credentials) -> Iterator[str]:
    """Try a check that is made of no others, and tell why it cannot be decided, if so."""
    if type(check) not in (_GENERIC, _ROLE):
        return
    try:
        check(target, credentials, None)
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


@attrs.define
class Compiler:
    """Makes functions of trees that refer to one another, but never to themselves."""

    checks: Mapping[str, Check]
    _enforcer: policy.Enforcer = attrs.field(init=False)
    _done: dict[str, Decide] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        # Only for checks of other packages, which may look at the rules.
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        self._enforcer = policy.Enforcer(conf, rules=dict(self.checks), use_conf=False)

    def compile(self, name: str) -> Decide:
        """Return the function that decides the rule."""
        if name not in self._done:
            self._done[name] = self._function(self.checks[name], name)
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
        asked = credential(check)
        if asked is not None and asked == check.kind:
            return _compare(asked, check.match)
        enforcer = self._enforcer
        if len(inspect.signature(check).parameters) > 3:
            return lambda target, credentials: check(target, credentials, enforcer, rule)
        return lambda target, credentials: check(target, credentials, enforcer)


def yes(target: Target, credentials: Credentials) -> bool:
    return True


def no(target: Target, credentials: Credentials) -> bool:
    return False


def _compare(asked: str, pattern: str) -> Decide:
    """Do as the library does with `user_id:%(owner)s`, which each time finds out what is asked."""

    def decide(target: Target, credentials: Credentials) -> bool:
        try:
            wanted, known = pattern % target, credentials[asked]
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
    return lambda target, credentials: all(part(target, credentials) for part in undecided)


def _any(parts: Sequence[Decide]) -> Decide:
    if yes in parts:
        return yes
    undecided = [part for part in parts if part is not no]
    if not undecided:
        return no
    return lambda target, credentials: any(part(target, credentials) for part in undecided)


def _not(part: Decide) -> Decide:
    if part in (yes, no):
        return no if part is yes else yes
    return lambda target, credentials: not part(target, credentials)
