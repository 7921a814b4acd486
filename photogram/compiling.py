"""Networks that torch compiles before they paint: for thousands of paintings of one size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    generator.compile(dynamic=False)
    try:
        try:
            generator.sample(Layout(torch.zeros(1, *size, dtype=torch.uint8)))
        except Exception as e:  # whatever a compiler may say
            if is_out_of_memory(e):
                raise
            said = (str(e).strip().splitlines() or [type(e).__name__])[0]
            raise UserError(f"--compile: torch cannot compile this network here ({said}); leave it out") from e
        yield
    finally:
        generator._compiled_call_impl = None
