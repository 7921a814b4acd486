"""Features of photographs, kept by the hash of what they were made of: reals are looked at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from photogram.images import replacing
from photogram.metrics.features import Seen


def cache_folder() -> Path:
    """$PHOTOGRAM_CACHE, else ~/.cache/photogram/features."""
    return Path(os.environ.get("PHOTOGRAM_CACHE") or Path.home() / ".cache" / "photogram" / "features")


def kept(identity: dict[str, object], images: str, make: Callable[[], Seen], folder: Path | None = None) -> Seen:
    """Features from the cache, or made and put there.

    A file appears whole or not at all, and its name is the hash of everything that it depends on, so that an
    interruption, two processes at a time, or a change of anything cannot make it wrong. One that is damaged is made
    anew. Where the cache cannot be written there is none.

    Args:
        identity: of the extractor.
        images: the hash of the images.
        make: looks at them.
        folder: of the cache.
    """
    folder = cache_folder() if folder is None else folder
    key = hashlib.sha256(json.dumps([identity, images], sort_keys=True).encode()).hexdigest()
    path = folder / f"{key}.safetensors"
    try:
        found = safetensors.torch.load_file(path)
        return Seen(found["features"], found.get("logits"))
    except (OSError, SafetensorError, KeyError):
        seen = make()
    tensors = {"features": seen.features.contiguous()}
    if seen.logits is not None:
        tensors["logits"] = seen.logits.contiguous()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(safetensors.torch.save(tensors))
    except OSError:
        return seen  # a cache is a convenience
    return seen
