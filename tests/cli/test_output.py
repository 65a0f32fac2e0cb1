"""How results are printed and written."""

import json
from pathlib import Path

import pytest


def test_text_on_stdout_and_nothing_on_stderr(cli, stub) -> None:
    stub("solve")
    ran = cli("solve", "p")
    assert (ran.status, ran.out, ran.err) == (0, "δ = −8\n", "")


def test_json_is_one_object(cli, stub) -> None:
    stub("solve")
    ran = cli("solve", "p", "--json")
    assert json.loads(ran.out) == {"steps": [{"loss": 4.0}]}
    assert json.loads(cli("solve", "p", "--json", "--full").out)["full"] is True


def test_json_has_no_bare_nan(cli, stub, fake) -> None:
    stub("solve", fake(data={"a": (float("nan"), [float("-inf")]), "b": {"c": 1.5}}))
    ran = cli("solve", "p", "--json")
    assert json.loads(ran.out, parse_constant=pytest.fail) == {"a": ["nan", ["-inf"]], "b": {"c": 1.5}}


def test_a_finding_exits_with_1(cli, stub, fake) -> None:
    stub("solve", fake(finding=True))
    assert cli("solve", "p").status == 1


def test_what_the_users_code_prints_goes_to_stderr(cli, stub, fake) -> None:
    def chatty():
        print("epoch 1")
        return fake()

    stub("solve", chatty)
    ran = cli("solve", "p", "--json")
    assert "epoch 1" in ran.err
    json.loads(ran.out)


def test_files_are_written_and_named_on_stderr(cli, stub, in_tmp: Path) -> None:
    stub("solve")
    (in_tmp / "a.html").write_text("old")
    ran = cli("solve", "p", "--out", "a.html", "--out", "b.JSON", "--out", "./a.html")
    assert ran.status == 0
    assert ran.err == "wrote a.html\nwrote b.JSON\n"
    assert {path.name: path.read_text() for path in in_tmp.iterdir()} == {
        "a.html": "a whole .html",
        "b.JSON": "a whole .JSON",
    }


def test_a_failed_write_leaves_everything_as_it_was(cli, stub, fake, in_tmp: Path) -> None:
    stub("solve", fake(fails=".pdf"))
    (in_tmp / "a.html").write_text("old")
    ran = cli("solve", "p", "--out", "a.html", "--out", "b.pdf")
    assert ran.status == 2 and ran.out == ""
    assert "No space left on device" in ran.err
    assert {path.name: path.read_text() for path in in_tmp.iterdir()} == {"a.html": "old"}


@pytest.mark.parametrize("out", ["x.xyz", "x", "nowhere/x.html", "folder.html"])
def test_an_unusable_out_is_refused_before_anything_is_computed(cli, stub, in_tmp: Path, out: str) -> None:
    calls = stub("solve")
    (in_tmp / "folder.html").mkdir()
    ran = cli("solve", "p", "--out", out)
    assert ran.status == 2 and ran.out == "" and f"--out {out}" in ran.err
    assert calls == []
    assert [path.name for path in in_tmp.iterdir()] == ["folder.html"]


def test_settings_and_seed_reach_the_problem(cli, stub) -> None:
    calls = stub("solve")
    cli("solve", "p", "--set", "lr=0.5", "--set", "x=[1,2]", "--set", "lr=1", "--seed", "7")
    assert calls == [(("p",), {"lr": 1, "x": [1, 2], "seed": 7})]


class Terminal:
    """A stdout that says that it is a terminal, with an encoding of its own."""

    def __init__(self, encoding: str = "utf-8", tty: bool = True) -> None:
        self.encoding, self.tty, self.written = encoding, tty, ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        text.encode(self.encoding)
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


def shown_on(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    from backproof.cli import main

    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", terminal)
        main(["solve", "p", *words])
    return terminal.written


@pytest.mark.parametrize(("no_color", "tty", "coloured"), [("", True, True), ("1", True, False), ("", False, False)])
def test_colour_is_for_terminals_only(stub, fake, monkeypatch, no_color: str, tty: bool, coloured: bool) -> None:
    class Colourful(fake):
        def __rich__(self) -> str:
            return "[red]δ[/red] in colour"

    stub("solve", Colourful())
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    written = shown_on(Terminal(tty=tty), monkeypatch)
    assert ("\x1b[31m" in written) is coloured
    assert ("in colour" in written) is coloured


def test_a_terminal_without_unicode_gets_question_marks_and_json_escapes(stub, fake, monkeypatch) -> None:
    stub("solve", fake(data={"δ": 1}))
    assert shown_on(Terminal("ascii"), monkeypatch) == "? = ?8\n"
    assert json.loads(shown_on(Terminal("ascii"), monkeypatch, "--json")) == {"δ": 1}
