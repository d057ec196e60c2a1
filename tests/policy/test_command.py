"""`imgservice policy`, as an operator calls it."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from imgservice.cli import main
from imgservice.policy.effective import read_policy
from imgservice.policy.files import Sources
from imgservice.policy.table import RULES


@pytest.fixture
def config(tmp_path: Path) -> Path:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "mine: project_id:%(owner)s\n"
        "get_image: rule:mine or 'red':%(colour)s\n"
        "download_image: [['role:a', 'role:b'], ['role:c']]\n"
        "get_images: rule:context_is_admin or (role:reader and project_id:%(project_id)s)\n"
        "context_is_admin: role:boss\n"
    )
    path = tmp_path / "imgservice.yaml"
    path.write_text(yaml.safe_dump({"policy": {"file": str(policy)}}))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["policy", *map(str, arguments)])


def test_show_prints_what_the_files_set(config: Path) -> None:
    found = run("show", "-c", config)
    assert found.exit_code == 0
    assert yaml.safe_load(found.stdout) == {
        "mine": "project_id:%(owner)s",
        "get_image": "rule:mine or 'red':%(colour)s",
        "download_image": "(role:a and role:b) or role:c",
        "get_images": "rule:context_is_admin or (role:reader and project_id:%(project_id)s)",
        "context_is_admin": "role:boss",
    }
    assert f"{config.parent}/policy.yaml:2, instead of: rule:context_is_admin or" in found.stdout


def test_merged_is_a_policy_file_that_means_the_same(config: Path, tmp_path: Path) -> None:
    found = run("show", "--merged", "-c", config)
    merged = tmp_path / "merged.yaml"
    merged.write_text(found.stdout)
    before = read_policy(Sources(config.parent / "policy.yaml"))
    after = read_policy(Sources(merged))
    assert {name: str(check) for name, check in after.checks.items()} == {
        name: str(check) for name, check in before.checks.items()
    }
    assert after.written.keys() == {*RULES, "mine"}
    assert "# the default, but rules that it refers to" in found.stdout


def test_sample_has_every_rule_commented_out(tmp_path: Path) -> None:
    lines = run("sample").stdout.splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    rules = yaml.safe_load("\n".join(line[1:] for line in lines if line.startswith('#"')))
    assert rules == {rule.name: rule.check for rule in RULES.values()}


ASKED = ("--project", "ours", "--roles", "Reader,member")


@pytest.mark.parametrize(
    ("arguments", "rule", "passed"),
    [
        (ASKED, "get_image", True),
        ((*ASKED, "--image-owner", "theirs"), "get_image", False),
        ((*ASKED, "--image-owner", "theirs", "--image-visibility", "public"), "get_image", False),
        (("--roles", "boss"), "get_images", True),
        (("--roles", "boss"), "publicize_image", True),
        (("--roles", "admin"), "publicize_image", False),
        (("--roles", "boss", "--system"), "publicize_image", False),
        (("--roles", "Manager", "--project", "ours"), "get_image", True),
        (("--roles", "a,B", "--project", "ours"), "download_image", True),
        (("--roles", "a", "--project", "ours"), "download_image", False),
        (ASKED, "add_image", True),
        ((*ASKED, "--image-owner", "theirs"), "add_image", False),
        (ASKED, "modify_member", False),
        ((*ASKED, "--image-owner", "theirs", "--image-member"), "modify_member", True),
        (ASKED, "mine", True),
        (ASKED, "get_metadef_namespace", True),
        (ASKED, "add_metadef_namespace", False),
    ],
)
def test_check_decides_as_the_service(
    arguments: tuple[str, ...], rule: str, passed: bool, config: Path
) -> None:
    found = run("check", "-c", config, "--rule", rule, *arguments)
    assert found.stdout == f"{'passed' if passed else 'failed'}: {rule}\n"
    assert found.exit_code == (0 if passed else 1)


def test_check_looks_at_an_image_in_a_file(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "image.json"
    image = {"owner": "theirs", "visibility": "public", "colour": "red", "min_ram": 5, "tags": []}
    for colour, code in (("red", 0), ("blue", 1)):
        target.write_text(json.dumps({**image, "colour": colour}))
        found = run("check", "-c", config, "-r", "get_image", *ASKED, "--target", target)
        assert found.exit_code == code


def test_check_of_all_rules_is_no_failure(config: Path) -> None:
    found = run("check", "-c", config, *ASKED)
    assert found.exit_code == 0
    assert {line.split(": ")[1] for line in found.stdout.splitlines()} == {*RULES, "mine"}


def test_without_any_files_the_defaults_hold(tmp_path: Path) -> None:
    assert run("show").stdout == ""
    assert run("check", "-r", "get_image", *ASKED).exit_code == 0
    assert run("check", "-r", "get_image", "--project", "ours").exit_code == 1


@pytest.mark.parametrize(
    ("mode", "code"),
    [("none", 0), ("{mode: keystone, keystone: {url: http://keystone:5000/v3}}", 1)],
)
def test_check_adds_implied_roles_where_the_service_does(
    tmp_path: Path, mode: str, code: int
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"auth: {mode}\n" if code else f"auth: {{mode: {mode}}}\n")
    arguments = ("--rule", "get_image", "--roles", "member", "--project", "ours")
    assert run("check", "-c", config, *arguments).exit_code == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rule", "get_imag"), "there is no rule 'get_imag'"),
        (("--image-visibility", "open"), "'open' is not one of"),
        (("--target", "broken"), "broken: Expecting value"),
        (("--target", "list"), "list: expected a JSON object"),
        (("--target", "odd"), "'odd' is not a valid Visibility"),
    ],
)
def test_questions_that_make_no_sense(
    arguments: tuple[str, str], message: str, config: Path, tmp_path: Path
) -> None:
    for name, text in (("broken", ""), ("list", "[]"), ("odd", '{"visibility": "odd"}')):
        (tmp_path / name).write_text(text)
    option, value = arguments
    value = str(tmp_path / value) if option == "--target" else value
    found = run("check", "-c", config, option, value)
    assert found.exit_code == 2
    assert message in found.stderr


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_file_with_mistakes(command: str, config: Path) -> None:
    (config.parent / "policy.yaml").write_text("get_image: rule:nowhere\n")
    found = run(command, "-c", config)
    assert found.exit_code == 2
    assert f"{config}:1: policy: " in found.stderr
    assert "policy.yaml:1: get_image: there is no rule 'nowhere'" in found.stderr
