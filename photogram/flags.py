"""Flags from the command line, and what is wrong with them in one line."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import make_dataclass
from typing import Any

import tyro

from photogram.errors import UsageError, nearest

_TITLES = ("Value error", "Missing argument", "Invalid choice", "Unrecognized options", "Required options")
_CHOICE = r"(?P<what>invalid choice '(?P<word>.*?)' for argument '.*?')\. Expected one of \((?P<known>.*?)\)"
_SPOKEN = (
    (r"invalid literal for int\(\) with base 10: ('.*?')", r"\1 is no integer"),
    (r"could not convert string to float: ('.*?')", r"\1 is no number"),
    (r"no type matching (.*?) could be instantiated from \[(.*?)\]\..*", r"\2 is not \1"),
    (r"\{None\}\|", ""),
    (r"\}\|\{", " or "),
    (r"[{}]", ""),
)


def run(function: Callable[..., int], prog: str, arguments: Sequence[str]) -> int:
    """Call a function with the flags that tyro makes of its arguments.

    Raises:
        UsageError: where the flags do not fit, in one line.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    return parsed(lambda args: tyro.cli(_later(function), prog=prog, args=args, config=config), prog, arguments)()


def choose(functions: Mapping[str, Callable[..., int]], what: str, prog: str, arguments: Sequence[str]) -> int:
    """The same, of the function that the first word names."""
    first = pick(functions, what, prog, arguments)
    return run(functions[first], f"{prog} {first}", arguments[1:])


def pick(known: Mapping[str, Callable[..., Any]], what: str, prog: str, arguments: Sequence[str]) -> str:
    """The first word, which must be one of these.

    Raises:
        UsageError: where it is missing or unknown.
        SystemExit: after it has printed help, where that is asked for.
    """
    first, names = (arguments[0] if arguments else "--"), ", ".join(known)
    if first in ("-h", "--help"):
        tyro.extras.subcommand_cli_from_dict(dict(known), prog=prog, args=list(arguments))
    if first.startswith("-"):
        raise UsageError(f"give a {what} first: {prog} {what.upper()} ...; there is {names}")
    if first not in known:
        raise UsageError(f"unknown {what} {first!r}{nearest(first, list(known))}; there is {names}")
    return first


def joined(name: str, doc: str | None, **parts: type[Any]) -> type[Any]:
    """One command of several dataclasses, whose fields are flags side by side.

    Args:
        name: of the dataclass that has the parts as fields.
        doc: what the command's help says.
        parts: dataclasses by the name of the field.
    """
    fields = [(part, tyro.conf.OmitArgPrefixes[kind]) for part, kind in parts.items()]
    return make_dataclass(name, fields, namespace={"__doc__": doc})


def filled(command: type[Any], prog: str, arguments: Sequence[str]) -> Any:
    """An instance of a dataclass, of the flags that tyro makes of its fields.

    Raises:
        UsageError: where they do not fit, in one line.
        SystemExit: after it has printed help.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    return parsed(lambda args: tyro.cli(command, prog=prog, args=args, config=config), prog, arguments)


def parsed(parse: Callable[[list[str]], Any], prog: str, arguments: Sequence[str]) -> Any:
    """What tyro makes of the arguments.

    Args:
        parse: calls tyro.
        prog: how the command begins, for messages.
        arguments: the words after it.

    Raises:
        UsageError: where they do not fit, in one line.
        SystemExit: after it has printed help.
    """
    if any(word in ("-h", "--help") for word in arguments):
        return parse(list(arguments))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parse(list(arguments))
    except SystemExit:
        known = _flags_of(parse)
        raise UsageError(f"{_reason(said.getvalue(), arguments, known)}; `{prog} --help` says more") from None


def _later(function: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Takes the arguments now and is run later, when nothing that it prints is caught."""

    @functools.wraps(function)
    def keep(*args: Any, **flags: Any) -> Callable[[], int]:
        return functools.partial(function, *args, **flags)

    return keep


def _flags_of(parse: Callable[[list[str]], Any]) -> list[str]:
    said = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        parse(["--help"])
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", said.getvalue())))


def _reason(said: str, arguments: Sequence[str], known: list[str]) -> str:
    for word in (a.partition("=")[0] for a in arguments if a.startswith("--") and len(a) > 2):
        if word.replace("_", "-") not in known:
            return f"unknown flag {word}{nearest(word, known)}"
    bare = (re.sub(r"[─-]{5,}", "", line).strip("│|╭╰╮╯+─ ") for line in said.splitlines())
    lines = [line for line in bare if line not in ("", *_TITLES)]
    missing = [found[0] for line in lines if (found := re.match(r"(--[a-z][a-z-]*|[A-Z]{2,})", line))]
    if any(line.startswith(("Missing", "The following arguments are required")) for line in lines) and missing:
        return f"missing: {', '.join(dict.fromkeys(missing))}"
    ends = [n for n, line in enumerate(lines) if line.startswith(("Argument helptext", "For full helptext", "Perhaps"))]
    reason = " ".join(lines[: ends[0]] if ends else lines)
    for pattern, words in _SPOKEN:
        reason = re.sub(pattern, words, reason)
    return re.sub(_CHOICE, _choice, reason.removeprefix("Error parsing ")).rstrip(".")


def _choice(said: re.Match[str]) -> str:
    """A choice that there is not, as a flag that there is not: with the nearest."""
    known = [word for word in re.findall(r"'(.*?)'", said["known"]) if word != "None"]  # None is to leave it out
    return f"{said['what']}{nearest(said['word'], known)}; there is {', '.join(known)}"
