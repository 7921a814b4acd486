"""The one kind of error that a person using photogram can mend."""


class UserError(ValueError):
    """A mistake in what was asked: a file, a value, an option.

    Its message is one line that names the file, the value and the bound, and says what to do. The command line prints
    that line and exits with a status other than 0; in Python it is a `ValueError`.
    """


class UsageError(UserError):
    """Words or flags that the command line does not know; it exits with status 2."""


def flag(name: str, value: object) -> str:
    """A field and its value as they are typed on the command line: `--train-last 2`."""
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([f"--{name.replace('_', '-')}", *map(str, values)])


def unfit(name: str, value: object, bound: str) -> UserError:
    """The mistake of a value that a flag cannot have.

    Args:
        name: the field's, as in Python.
        value: what it was given.
        bound: what it must be, or what to do.
    """
    return UserError(f"{flag(name, value)}: {bound}")


def nearest(word: str, known: list[str]) -> str:
    """A hint for a misspelt name, `" (did you mean 'train'?)"`, or nothing where no known name is near."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, which torch reports in words alone."""
    said = str(error).lower()
    words = ("allocate memory", "out of memory", "not enough memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in said for word in words))
