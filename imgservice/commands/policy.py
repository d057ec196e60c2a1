"""`imgservice policy`: shows and tries the policy rules."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypedDict, Unpack

import attrs
import click

from imgservice.commands.configuration import warn, with_config
from imgservice.config.sections import Config
from imgservice.domain.context import Context
from imgservice.domain.image import Image, Status, Visibility
from imgservice.domain.roles import with_implied
from imgservice.policy.table import RULES, Rule
from imgservice.wiring.policy import policy_sources, read_policies

if TYPE_CHECKING:
    from imgservice.policy.effective import Policy

_NOW = datetime(2026, 1, 1)
_GIVEN = ("id", "name", "owner", "protected", "os_hidden", "disk_format", "container_format",
          "min_disk", "min_ram", "size", "virtual_size", "checksum")  # fmt: skip
_NOT_USABLE = 2
"""Exit code when an option or the configuration is wrong; 1 means that a rule refuses."""
P = ParamSpec("P")


@click.group()
def policy() -> None:
    """Show and try the policy rules."""


def _with_config(command: Callable[Concatenate[Config, P], None]) -> Callable[..., None]:
    return with_config(command, _NOT_USABLE)


# -- the rules in force ---------------------------------------------------------------------------


@policy.command()
@_with_config
@click.option("--merged", is_flag=True, help="Print all rules, not only those that the files set.")
def show(config: Config, merged: bool) -> None:
    """Print the rules that the policy files set, with file and line.

    The output is itself a policy file.
    """
    found = read_policies(config)
    for warning in found.warnings:
        warn(warning)
    names = [*RULES, *(name for name in found.checks if name not in RULES)]
    for name in names:
        if merged or name in found.written:
            click.echo("\n".join(_shown(found, name)))


def _shown(found: "Policy", name: str) -> Iterator[str]:
    from imgservice.policy.checks import write

    rule, written = RULES.get(name), found.written.get(name)
    if written is not None:
        same = rule is not None and name not in found.overridden
        default = "" if rule is None else f", instead of: {_default(rule)}"
        yield f"# {written.place}{', which is the default' if same else default}"
    elif name in found.overridden:
        yield "# the default, but rules that it refers to, or former defaults, change it"
    else:
        yield "# the default"
    if name in found.checks:
        yield f"{json.dumps(name)}: {json.dumps(write(found.checks[name]), ensure_ascii=False)}"
    else:
        yield f"# {name} is not understood, and nothing uses it"


def _default(rule: Rule) -> str:
    return rule.check or "everybody"


@policy.command()
def sample() -> None:
    """Print a policy file with all rules and their defaults, commented out."""
    for rule in RULES.values():
        click.echo(f"# {rule.about}")
        for operation in rule.operations:
            click.echo(f"# {operation}")
        click.echo(f"#{json.dumps(rule.name)}: {json.dumps(rule.check)}\n")


# -- who may do what ------------------------------------------------------------------------------


class Question(TypedDict):
    """The caller and the image of `check`."""

    roles: str
    project: str | None
    user: str | None
    system: bool
    target: Path | None
    image_owner: str | None
    image_visibility: str | None
    image_member: bool


@policy.command()
@_with_config
@click.option("--rule", "-r", "rules", multiple=True, help="Try only this rule; may be repeated.")
@click.option("--roles", default="", help="The roles of the caller, separated by commas.")
@click.option("--project", help="The project of the caller.")
@click.option("--user", help="The id of the caller.")
@click.option(
    "--system", is_flag=True, help="The caller's token is for the whole cloud, not for a project."
)
@click.option(
    "--target",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A JSON file with an image, as the API shows it.",
)
@click.option(
    "--image-owner", help="The project that owns the image; by default that of the caller."
)
@click.option(
    "--image-visibility",
    type=click.Choice([str(one) for one in Visibility]),
    help="The visibility of the image.",
)
@click.option("--image-member", is_flag=True, help="The image is shared with the caller's project.")
def check(config: Config, rules: tuple[str, ...], **options: Unpack[Question]) -> None:
    """Print what a caller may do with an image.

    The exit code is 1 if a rule given with --rule refuses, and else 0.
    """
    found = read_policies(config)
    unknown = [name for name in rules if name not in found.decide]
    if unknown:
        raise click.BadParameter(f"there is no rule {unknown[0]!r}", param_hint="--rule")
    decide = _decider(config, _context(config, options), _image(options))
    failed = 0
    for name in rules or found.decide:
        passed = decide(name)
        click.echo(f"{'passed' if passed else 'failed'}: {name}")
        failed += not passed
    raise SystemExit(1 if rules and failed else 0)


def _decider(config: Config, context: Context, image: Image) -> Callable[[str], bool]:
    """Return a function that decides a rule as the service does."""
    from imgservice.policy.rules import PolicyRules

    options = config.policy
    rules = PolicyRules(
        policy_sources(config), warn, options.enforce_new_defaults, options.enforce_scope
    )
    is_admin = rules.allow(context, "context_is_admin", None)
    caller = attrs.evolve(context, is_admin=is_admin)

    def decide(name: str) -> bool:
        has_target = name not in RULES or RULES[name].has_target
        target = image if has_target else None
        return rules.allow(caller, name, target, is_new=name == "add_image")

    return decide


def _context(config: Config, options: Question) -> Context:
    named = frozenset(role.strip().lower() for role in options["roles"].split(",") if role.strip())
    # A token of Keystone, or a proxy, names the implied roles too.
    told = config.auth.mode in ("keystone", "trusted_headers")
    roles = named if told else with_implied(named)
    scope = "all" if options["system"] else None
    return Context(options["user"], options["project"], roles, system_scope=scope)


def _image(options: Question) -> Image:
    document = _document(options["target"])
    owner = document.pop("project_id", options["project"])
    fields = {"owner": owner, **{name: document.pop(name) for name in _GIVEN if name in document}}
    if options["image_owner"] is not None:
        fields["owner"] = options["image_owner"]
    visibility = options["image_visibility"] or document.pop("visibility", Visibility.SHARED)
    status = document.pop("status", Status.ACTIVE)
    try:
        return Image(
            **{"id": "an-id", **fields},
            status=Status(status),
            created_at=_NOW,
            updated_at=_NOW,
            visibility=Visibility(visibility),
            tags=tuple(document.pop("tags", ())),
            membership="accepted" if options["image_member"] else None,
            properties={name: value for name, value in document.items() if isinstance(value, str)},
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--target") from None


def _document(path: Path | None) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--target") from None
    if not isinstance(document, dict):
        raise click.BadParameter(f"{path}: expected a JSON object", param_hint="--target")
    return document
