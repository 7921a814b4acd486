"""Steps that can be taken back and done again: what each changed, as it was before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from photogram.edits import Region, State, Style
from photogram.strokes import Box

STEPS, BYTES = 500, 96 << 20
"""So much is kept at most, of steps and of pixels; the oldest are forgotten."""


@dataclass(frozen=True, eq=False)
class _Part:
    """What a state has inside a box, and all that is small."""

    classes: np.ndarray | None
    instances: np.ndarray | None
    styles: Mapping[Region, Style]
    defaults: tuple[Style, ...]
    fresh: int

    @classmethod
    def of(cls, state: State, box: Box | None) -> _Part:
        pixels = (None, None) if box is None else (state.classes[box.slices].copy(), state.instances[box.slices].copy())
        return cls(*pixels, state.styles, state.defaults, state.fresh)

    def put_into(self, state: State, box: Box | None) -> State:
        pixels: dict[str, Any] = {}
        if box is not None:
            pixels = {"classes": state.classes.copy(), "instances": state.instances.copy()}
            pixels["classes"][box.slices], pixels["instances"][box.slices] = self.classes, self.instances
        return replace(state, **pixels, styles=self.styles, defaults=self.defaults, fresh=self.fresh)


@dataclass(frozen=True, eq=False)
class _Step:
    box: Box | None
    before: _Part
    after: _Part

    @property
    def bytes(self) -> int:
        return 0 if self.box is None else 10 * self.box.size[0] * self.box.size[1]  # twice one byte and four


class History:
    """The steps of a session."""

    def __init__(self) -> None:
        self.done: list[_Step] = []
        self.undone: list[_Step] = []

    def do(self, before: State, after: State, box: Box | None) -> bool:
        """Note a step; False where it changes nothing, and is none."""
        same = box is None and (before.styles, before.defaults) == (after.styles, after.defaults)
        if same:
            return False
        self.done.append(_Step(box, _Part.of(before, box), _Part.of(after, box)))
        self.undone.clear()
        while len(self.done) > STEPS or (len(self.done) > 1 and sum(step.bytes for step in self.done) > BYTES):
            del self.done[0]
        return True

    def undo(self, state: State) -> tuple[State, Box | None] | None:
        """The state before the last step, and where it differs."""
        if not self.done:
            return None
        step = self.done.pop()
        self.undone.append(step)
        return step.before.put_into(state, step.box), step.box

    def redo(self, state: State) -> tuple[State, Box | None] | None:
        """The state after the step that was taken back last, and where it differs."""
        if not self.undone:
            return None
        step = self.undone.pop()
        self.done.append(step)
        return step.after.put_into(state, step.box), step.box
