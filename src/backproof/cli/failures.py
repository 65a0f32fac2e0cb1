"""What a command says when it could not do what was asked: one paragraph, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from backproof.errors import BackproofError, EvidenceError

__all__ = ["guarded"]

FINDING, REFUSED, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
LONGEST_MESSAGE = 2_000


def guarded(command: Callable[[], int]) -> int:
    """Call a command and turn whatever it raises into a paragraph on stderr and an exit status."""
    status = 0
    try:
        status = _attempt(command)
        sys.stdout.flush()
    except BrokenPipeError:
        return _let_go_of_stdout(BROKEN_PIPE)
    except OSError as error:
        if status != REFUSED:
            _say(f"the output could not be written: {error.strerror or error}.")
        return _let_go_of_stdout(REFUSED)
    return status


def _attempt(command: Callable[[], int]) -> int:
    try:
        return command()
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BackproofError as error:
        _debug()
        _say(str(error) or type(error).__name__)
        return FINDING if isinstance(error, EvidenceError) else REFUSED
    except Exception as error:
        _debug()
        _say(_bug(error))
        return REFUSED


def _say(message: str) -> None:
    """Write one paragraph: no blank lines, no control characters, and not without end."""
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in "\n".join(lines))
    if len(text) > LONGEST_MESSAGE:
        text = text[:LONGEST_MESSAGE] + " ..."
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(f"backproof: {text}\n".encode(encoding, "replace").decode(encoding))


def _bug(error: Exception) -> str:
    """Describe an exception that nobody meant to raise: its type, its message, its last frame."""
    reason = (str(error).strip().splitlines() or ["no message"])[0][:300]
    return (
        f"this is a bug in Backproof: {type(error).__name__}: {reason} ({_last_frame(error)}). Please report "
        "it with the command that you typed; BACKPROOF_DEBUG=1 shows the whole traceback."
    )


def _last_frame(error: Exception) -> str:
    trace = error.__traceback__
    if trace is None:
        return "no frame"
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{os.path.basename(code.co_filename)}, line {trace.tb_lineno}, in {code.co_name}"  # noqa: PTH119


def _debug() -> None:
    if os.environ.get("BACKPROOF_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exc()


def _let_go_of_stdout(status: int) -> int:
    """Keep Python from complaining at exit about what it could not write (``| head``, a full disk)."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is not a file
        pass
    finally:
        os.close(devnull)
    return status
