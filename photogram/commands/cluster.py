"""`photogram cluster`: the styles that the objects of a data set have, put beside the network that paints them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from tyro.conf import Positional

from photogram import flags
from photogram.errors import UserError, unfit

_MOST = 1000


def run(arguments: Sequence[str]) -> int:
    """`photogram cluster RUN --data DATA ...`."""

    def command(
        run: Positional[Path],
        /,
        *,
        data: Path,
        split: str = "train",
        clusters: int = 10,
        least_area: str = "1/64",
        fit: Literal["auto", "stretch", "crop", "window"] = "auto",
        seed: int = 0,
    ) -> int:
        """Find what styles objects have, by encoding the photographs of a data folder: clusters for each class.

        They are stored in the network itself; synthesize and editing then choose from them. A training that goes on
        publishes its network without them: run this again when it has ended.

        Args:
            run: a run or a published network of pix2pixhd, trained with --features objects or classes.
            data: the data folder that it was trained on.
            split: of it.
            clusters: for each class, where it has so many regions.
            least_area: regions that are not larger than this share of their picture are left out.
            fit: how photographs are brought to the network's size; auto: as they were when the run was trained, and
                stretched where there is no run.json beside the network.
            seed: of the clusters, and of which regions are kept of a class with very many.
        """
        return _run(run, data, split, clusters, least_area, fit, seed)

    return flags.run(command, "photogram cluster", arguments)


def _run(run: Path, data: Path, split: str, clusters: int, least_area: str, fit: str, seed: int) -> int:
    from photogram.data.folder import Fit, Folder
    from photogram.generator import CARD, WEIGHTS
    from photogram.outputs import read_record
    from photogram.recipes import load
    from photogram.runfolder import SETTINGS
    from photogram.styled import StyledGenerator
    from photogram.styling import (
        area,
        card_with,
        check_fit,
        cluster_styles,
        find_styles,
        replace_published,
        report,
        with_styles,
    )

    share = area(least_area)
    if not 1 <= clusters <= _MOST:
        raise unfit("clusters", clusters, f"must be 1 to {_MOST}")
    if seed < 0:
        raise unfit("seed", seed, "must be 0 or more")
    weights = (run / WEIGHTS).stat() if (run / WEIGHTS).is_file() else None
    network = load(run)
    assert weights is not None, "else it could not be loaded"
    if not isinstance(network, StyledGenerator):
        raise UserError(f"{run}: holds a {type(network).__name__}, which has no styles; pix2pixhd has")
    wanted: object = fit
    if fit == "auto":  # the encoder knows photographs at that scale
        trained = read_record(run / SETTINGS, "say how photographs are brought to size with --fit")
        wanted = (trained or {}).get("fit")
    how: Fit = next((known for known in get_args(Fit) if known == wanted), "stretch")
    scenes = Folder(data, split, size=network.spec.size, fit=how)
    check_fit(network, scenes.spec, str(data / split))
    found = find_styles(network, scenes, least_area=share, seed=seed)
    styles = cluster_styles(found, network.spec.num_classes, clusters, seed)
    lines = report(found, styles, network.spec, share)
    made = (
        f"of {found.scenes} photographs of {scenes.source} ({how}); regions above {share} of the picture, seed {seed}"
    )
    card = (run / CARD).read_text(encoding="utf-8") if (run / CARD).is_file() else f"# {type(network).__name__}\n"
    network = with_styles(network, styles)
    replace_published(network, run, card_with(card, [f"styles by `photogram cluster`, {made}", *lines]), weights)
    for line in lines:
        print(line)
    print(f"{run}: styles {made}")
    print("they are lost where this run's training goes on, which publishes its network anew: then cluster again")
    print(f"next: photogram synthesize {run} {data / 'val' / 'layouts'} --out painted --styles 4")
    return 0
