"""Flags of a verb that paints: its own, and those of the network whose folder is named among the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from photogram import flags
from photogram.collecting import is_there


def filled(
    verb: str, own: type[Any], options_of: Callable[[type[Any], str], type[Any] | None], arguments: Sequence[str]
) -> tuple[Any, Any]:
    """The flags of a verb and the options of a network, which is found by its folder, before flags are known.

    Args:
        verb: such as `sample`.
        own: the dataclass of the verb's flags; its text is the help.
        options_of: the dataclass of what can be chosen, of a kind of network and its folder; may refuse it.
        arguments: the words after the verb.

    Returns:
        Both; None for options where there is nothing to choose, or no network.

    Raises:
        UsageError: where the flags do not fit.
    """
    from photogram.generator import CONFIG
    from photogram.recipes import kind

    folder = next((word for word in arguments if is_there(Path(word) / CONFIG)), None)
    options = None if folder is None else options_of(kind(folder), folder)
    parts = {} if options is None or not fields(options) else {"network": options}
    command = flags.joined(verb.capitalize(), own.__doc__, own=own, **parts)
    asked = flags.filled(command, f"photogram {verb}", arguments)
    return asked.own, getattr(asked, "network", None)
