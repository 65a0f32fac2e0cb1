"""The commands and their help."""

import importlib
import shlex

import pytest

from backproof.cli.parser import COMMANDS


def module(command: str):
    return importlib.import_module(f"backproof.cli.{command.replace('-', '_')}")


def test_help_lists_every_command(cli) -> None:
    ran = cli("--help")
    assert ran.status == 0 and ran.err == ""
    shown = " ".join(ran.out.split())
    for name, line in COMMANDS.items():
        assert f"{name} {line}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_the_common_options_and_an_example(cli, name: str) -> None:
    ran = cli(name, "--help")
    assert ran.status == 0 and ran.err == ""
    assert all(option in ran.out for option in ("--json", "--out", "--seed"))
    assert f"example: {module(name).EXAMPLE}" in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_understood(name: str) -> None:
    from backproof.cli.parser import parse

    program, *words = shlex.split(module(name).EXAMPLE)
    assert program == "backproof" and words[0] == name
    assert parse(words).run is module(name).run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "COMMAND"),
        (["slove"], "'slove' (choose from"),
        (["solve"], "PROBLEM"),
        (["solve", "x", "--colour"], "--colour"),
        (["solve", "x", "--js"], "--js"),
        (["problems", "--seed", "minus"], "'minus'"),
        (["trace", "m:n", "--steps", "0"], "'0'"),
        (["trace", "m:n", "--arithmetic", "octal"], "'octal'"),
    ],
)
def test_a_wrong_word_is_named(cli, words: list[str], says: str) -> None:
    ran = cli(*words)
    assert ran.status == 2 and ran.out == ""
    assert ran.err.startswith("backproof: ") and says in ran.err and "--help" in ran.err
    assert ran.err.count("\n") == 1


def test_version(cli) -> None:
    ran = cli("--version")
    assert ran.status == 0 and ran.out.startswith("backproof ")
