"""Photographic images made without a camera. Public names load when they are first used."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from photogram.data.folder import Folder as Folder
    from photogram.errors import UserError as UserError
    from photogram.generator import Generator as Generator
    from photogram.recipes import load as load
    from photogram.scene import Condition as Condition
    from photogram.scene import Layout as Layout
    from photogram.scene import Scene as Scene
    from photogram.scene import save as save
    from photogram.training import Plan as Plan
    from photogram.training import train as train

_HOMES = {
    "Condition": "scene",
    "Folder": "data.folder",
    "Generator": "generator",
    "Layout": "scene",
    "Plan": "training",
    "Scene": "scene",
    "UserError": "errors",
    "load": "recipes",
    "save": "scene",
    "train": "training",
}
__all__ = ["__version__", *sorted(_HOMES)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'photogram' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"photogram.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
