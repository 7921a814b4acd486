"""The protocols that come with the package, by name; apart from all that reads them, so that help can list them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "protocols"


def shipped() -> list[str]:
    """The names of the protocols that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))
