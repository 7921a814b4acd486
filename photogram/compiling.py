"""Networks that torch compiles before they paint: for thousands of paintings of one size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from photogram.errors import UserError, is_out_of_memory
from photogram.generator import Generator
from photogram.scene import Layout, Size


@contextmanager
def compiled(generator: Generator, size: Size) -> Iterator[None]:
    """Paint with a network's forward compiled, for layouts of one size, one by one.

    All compiling is done before it is entered, which takes a minute and more. Paintings differ from others by rounding.

    Raises:
        UserError: where torch cannot compile it here, such as without a C++ compiler.
    """
    from torch._inductor.utils import fresh_cache  # seconds, and 90 MB, that nothing else is to pay

    generator.compile(dynamic=False)
    with ExitStack() as stack:
        stack.callback(setattr, generator, "_compiled_call_impl", None)
        try:
            _paint_once(generator, size)
        except Exception as e:  # whatever a compiler may say
            if is_out_of_memory(e):
                raise
            stack.enter_context(fresh_cache())  # where a process was killed, what it left is broken
            torch.compiler.reset()
            try:
                _paint_once(generator, size)
            except Exception as again:
                said = [line for line in str(again).strip().splitlines() if line.strip()] or [type(again).__name__]
                why = said[0] if len(said) == 1 else f"{said[0].strip()} {said[1].strip()}"
                raise UserError(f"--compile: torch cannot compile this network here ({why}); leave it out") from again
        yield


def _paint_once(generator: Generator, size: Size) -> None:
    generator.sample(Layout(torch.zeros(1, *size, dtype=torch.uint8)))
