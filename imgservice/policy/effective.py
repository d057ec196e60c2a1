"""Merges the operator's files with the defaults, and finds mistakes in them."""

import difflib
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime
from functools import cache
from graphlib import TopologicalSorter

import attrs

from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.context import Context
from imgservice.domain.image import Image, Status, Visibility
from imgservice.domain.roles import KnownRoles
from imgservice.policy import checks
from imgservice.policy.checks import Check, Compiler, Decide, NotUnderstood
from imgservice.policy.files import Sources, Written
from imgservice.policy.subjects import CREDENTIALS, TargetNames, credentials
from imgservice.policy.table import RULES

_NOW = datetime(2026, 1, 1)
SAMPLE = Context("a-user", "a-project", frozenset({"member"}), user_domain="a-domain")
MOST_RULES = 1000
DEEPEST = 2 * checks.DEEPEST
"""How deep checks may be nested, including those of the rules that they refer to."""
_THEIRS = Image("an-id", Status.ACTIVE, _NOW, _NOW, owner="theirs", visibility=Visibility.PUBLIC)


@attrs.frozen
class Policy:
    """The rules in force, as one reading found them."""

    checks: Mapping[str, Check]
    """Of every rule, including those that the operator made up."""
    written: Mapping[str, Written]
    """What the files say, even where it is the default."""
    overridden: Set[str]
    """Rules of the table that differ from the default, if only through another rule."""
    decide: Mapping[str, Decide]
    warnings: Sequence[str]
    """What may be a mistake, with its place."""


def read_policy(
    sources: Sources, new_defaults: bool = True, roles: KnownRoles | None = None
) -> Policy:
    """Read the files; `Unreadable` names every mistake that changes what a rule decides.

    With `roles` there are warnings about roles that nobody has.
    """
    written, warnings = sources.read()
    if len(written) > MOST_RULES:
        one = list(written.values())[MOST_RULES]
        raise Unreadable(f"{one.place}: there are more than {MOST_RULES} rules")
    reading = _Reading(written, _defaults(written, new_defaults), roles)
    reading.check()
    compiler = Compiler(reading.checks)
    usable = [name for name in reading.checks if name not in reading.unusable]
    decide = {name: compiler.compile(name) for name in usable}
    return Policy(
        reading.checks, written, reading.overridden(), decide, [*warnings, *reading.warnings]
    )


@cache
def default_checks() -> Mapping[str, Check]:
    return {rule.name: checks.parse(rule.check) for rule in RULES.values()}


def _defaults(written: Mapping[str, Written], new_defaults: bool) -> Mapping[str, Check]:
    found = dict(default_checks())
    if not new_defaults:
        for rule in RULES.values():
            if rule.deprecated not in (None, rule.check) and rule.name not in written:
                found[rule.name] = checks.either(found[rule.name], checks.parse(rule.deprecated))
    return found


class _Reading:
    """Finds mistakes: errors in what rules of the table use, and else warnings."""

    def __init__(
        self,
        written: Mapping[str, Written],
        defaults: Mapping[str, Check],
        roles: KnownRoles | None,
    ) -> None:
        self._written = written
        self._roles = roles
        self._faults: dict[str, list[str]] = {}
        self.checks = dict(defaults)
        self.warnings: list[str] = []
        self._references: dict[str, Sequence[str]] = {}
        for name, one in written.items():
            try:
                self.checks[name] = checks.parse(one.text)
            except NotUnderstood as error:
                self.checks.pop(name, None)
                self._faults[name] = [str(error)]

    @property
    def unusable(self) -> Set[str]:
        return {name for name in self.checks if self._reach(name) & self._faults.keys()}

    def check(self) -> None:
        for name in self._written:
            if name in self.checks:
                self._check(name)
        self._check_depths()
        used = set().union(*(self._reach(name) for name in RULES))
        mistakes = [line for name in self._faults if name in used for line in self._lines(name)]
        if mistakes:
            raise Unreadable("\n".join(mistakes))
        self.warnings += [line for name in self._faults for line in self._lines(name)]
        self.warnings += self._unknown_names()

    def overridden(self) -> Set[str]:
        defaults = default_checks()
        changed = {
            name for name in self.checks if str(self.checks[name]) != str(defaults.get(name))
        }
        return {name for name in RULES if self._reach(name) & changed}

    def _reach(self, name: str) -> Set[str]:
        """Return the rule and all that it refers to, also through others."""
        found: set[str] = set()
        pending = [name]
        while pending:
            one = pending.pop()
            if one not in found:
                found.add(one)
                pending += self._referred(one)
        return found

    def _referred(self, name: str) -> Sequence[str]:
        """Return the rules that this one names."""
        if name not in self._references and name in self.checks:
            self._references[name] = checks.references(self.checks[name])
        return self._references.get(name, ())

    def _check_depths(self) -> None:
        """Find rules whose evaluation would recurse deeper than Python can."""
        usable = self.checks.keys() - self.unusable
        depths: dict[str, int] = {}
        for name in TopologicalSorter({one: self._referred(one) for one in usable}).static_order():
            further = max((depths[other] for other in self._referred(name)), default=0)
            depths[name] = checks.depth(self.checks[name]) + further
            if depths[name] > DEEPEST and name in self._written:
                fault = f"its checks, and those it refers to, are nested more than {DEEPEST} deep"
                self._faults.setdefault(name, [fault])

    def _check(self, name: str) -> None:
        check = self.checks[name]
        faults = []
        for other in self._referred(name):
            if other not in self.checks and other not in self._faults:
                faults.append(f"there is no rule {other!r}{_close(other, self.checks)}")
            elif name in self._reach(other):
                faults.append(f"it refers to itself through {other!r}")
        for leaf in checks.leaves(check):
            faults += checks.faults(leaf, TargetNames(SAMPLE, _THEIRS), credentials(SAMPLE))
            for warning in (*_leaf_warnings(leaf), self._role_warning(leaf)):
                line = f"{self._at(name)}: {warning}"
                if warning is not None and line not in self.warnings:
                    self.warnings.append(line)
        if faults:
            self._faults[name] = faults

    def _role_warning(self, leaf: Check) -> str | None:
        role = checks.role(leaf)
        return None if role is None or self._roles is None else self._roles.warning(role)

    def _lines(self, name: str) -> Iterator[str]:
        for fault in self._faults[name]:
            yield f"{self._at(name)}: {fault}"

    def _at(self, name: str) -> str:
        return f"{self._written[name].place}: {name}"

    def _unknown_names(self) -> Iterator[str]:
        referred = {other for one in self.checks for other in self._referred(one)}
        for name in self._written:
            if name not in RULES and name not in referred:
                close = _close(name, RULES)
                yield f"{self._at(name)}: no rule has this name, and none refers to it{close}"


def _close(name: str, known: Mapping[str, object]) -> str:
    found = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {found[0]}?" if found else ""


def _leaf_warnings(leaf: Check) -> Iterator[str]:
    asked = checks.credential(leaf)
    if asked is not None and asked not in CREDENTIALS:
        yield f"{leaf} never holds: what is known of a caller is {', '.join(CREDENTIALS)}"
