"""The commands and their parser: one line of help each; a command's module is imported when it is named."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from backproof.errors import InputError

__all__ = ["COMMANDS", "parse"]

COMMANDS = {
    "solve": "work a problem: a built-in one, a TOML file or a Python file",
    "mark": "mark hand-worked numbers and formulas against a problem's record",
    "check": "check a gradient entry by entry, and name the mistake and its place",
    "problems": "list the built-in problems",
    "derive": "derive a network's gradients as formulas, with the rule behind each",
    "curvature": "measure how sharply a loss curves, and the largest stable learning rate",
    "likelihood": "derive the loss that maximum likelihood under a noise leads to",
    "lr-range": "find the learning rates with which a network trains, with reasons",
    "search": "search a problem's settings for those that predict best what they were not trained on",
    "trace": "record every value, gradient and update of a network's training steps",
    "trajectories": "let several optimizers go down one loss, each at its own best rate",
    "train": "train a network, with curves and a checkpoint that resumes",
    "capture": "show the graph of textbook operations behind a network",
    "receptive-field": "show which inputs each layer of a network sees",
    "optimizer": "show what an optimizer does and keeps, when it is stable, and whether your own is what it claims",
    "certify": "bound a derivative for every weight in a box, with a proof and a witness",
    "propagate": "predict and measure how signal and gradient go through a network",
    "memory": "predict the memory of a training step, and plan one within a budget",
    "ops": "show which operations each reading knows",
    "doctor": "show versions, and which optional parts are here",
}
"""Every command with its one-line help. The module ``cli/<name>.py`` has ``add_arguments`` and ``run``."""

EPILOG = "example: backproof solve ctu-vir-3/sine-neuron --set lr=0.25 --out solved.html"


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Turn the words of a command line into settings; ``.run`` is the command to call with them."""
    parser, subparsers = _top_level()
    named = next((word for word in words if not word.startswith("-")), None)
    for name, line in COMMANDS.items():
        command = subparsers.add_parser(name, help=line, description=_sentence(line))
        if name == named:
            _fill(command, name)
    return parser.parse_args(words)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints go the way of every other error, and whose options are never guessed."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf$|nan$)")  # -1e-3 and -1/3 are values too, not options

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. `{self.prog} --help` shows what it takes.")


def _top_level() -> tuple[_Parser, argparse._SubParsersAction[_Parser]]:
    parser = _Parser(prog="backproof", description="Show the work of a neural network.", epilog=EPILOG)
    parser.add_argument("--version", action=_Version, help="print the version and stop")
    return parser, parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)


def _fill(command: argparse.ArgumentParser, name: str) -> None:
    """Give a command its arguments, its example and its ``run``."""
    module = import_module(f"backproof.cli.{name.replace('-', '_')}")
    module.add_arguments(command)
    command.epilog = f"example: {module.EXAMPLE}"
    command.set_defaults(run=module.run)


def _sentence(line: str) -> str:
    return line[0].upper() + line[1:] + "."


class _Version(argparse.Action):
    """Print the version; looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, *_: object) -> NoReturn:
        from .versions import version_of

        sys.stdout.write(f"backproof {version_of('backproof') or 'of unknown version (not installed)'}\n")
        raise SystemExit(0)
