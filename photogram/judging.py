"""Runs and folders of images to results: what `photogram evaluate` does.

A run is painted into a folder first, by `synthesize`, so that an interruption loses no painting and everything that was
judged can be looked at: `OUT/NAME/seed-N/painted-HASH`, by a hash of the weights and of everything else that paintings
depend on, so that a run that was trained on is painted anew. Results are written beside: `OUT/NAME/result.json`, and
`per-image.csv`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast
from typing import Protocol as Typed

import numpy as np

from photogram.collecting import Item
from photogram.data.folder import Folder
from photogram.errors import UsageError, UserError
from photogram.generator import CONFIG, Generator, NoOptions, Reader, UnaskedGenerator, read_config
from photogram.images import replacing, write_image
from photogram.metrics.brackets import Brackets, write_brackets
from photogram.metrics.cache import kept
from photogram.metrics.evaluate import Judges, look, look_at, measured, provenance
from photogram.metrics.features import Seen, load_extractor
from photogram.metrics.imported import ImportedSegmenter
from photogram.metrics.lpips import load_lpips
from photogram.metrics.pictures import Pictures
from photogram.metrics.protocol import Protocol, load_protocol
from photogram.metrics.reals import Reals, reals_of
from photogram.metrics.result import Repeats, Result, protocols_differ, provenances_differ, read_result
from photogram.metrics.shipped import FOLDER, shipped
from photogram.metrics.table import contact_sheet, most_different, page
from photogram.nn.trunks import weights_digest
from photogram.scene import SceneSpec, class_difference, shape
from photogram.synthesis import synthesize

Load = Callable[[Path], Any]
"""Opens a published network; the command line knows which there are."""


@dataclass(frozen=True)
class Asked:
    """What to judge, and how.

    Args:
        subjects: runs, published networks, or folders of images named as the layouts are.
        protocol: how.
        data: the data folder whose split is judged.
        out: where results go.
        load: opens a published network.
        home: the folder of the protocol's file, where its segmenter is sought before it is among the shipped ones.
        segmenter: a published segmenter or the JSON description of an imported one, in place of the protocol's.
        trunk_file: weights of the protocol's feature network, where they are no embedded ones.
        repeats: so many seeds, from the protocol's on.
        stored: results of earlier evaluations to compare with.
        quiet: show no progress.
    """

    subjects: tuple[Path, ...]
    protocol: Protocol
    data: Path
    out: Path
    load: Load
    home: Path = FOLDER
    segmenter: Path | None = None
    trunk_file: Path | None = None
    repeats: int = 1
    stored: tuple[Result, ...] = ()
    quiet: bool = False


@dataclass(frozen=True)
class Judged:
    """Results in the order of the subjects, with where their images are; then those that were stored, without."""

    results: list[Result]
    pictures: list[Pictures]
    reals: Reals
    stored: list[Result]


def judge(asked: Asked) -> Judged:
    """Judge every subject, and write `OUT/NAME/result.json` for each.

    Raises:
        UserError: for anything that would make the numbers not what the protocol says; before anything is judged where
            a stored result does not compare.
    """
    if asked.repeats < 1:
        raise UserError(f"--repeats {asked.repeats}: must be 1 or more")
    names = _names(asked.subjects)
    _check_protocols(asked.stored, asked.protocol)
    for subject in asked.subjects:  # before anything that takes long
        _check_subject(asked, subject)
    reals = reals_of(asked.data, asked.protocol, asked.quiet)
    judges = _judges(asked, reals.spec)
    for result in asked.stored:
        _agree(result, provenances_differ(result.provenance, provenance(reals, judges)))
    known = kept(
        judges.extractor.identity,
        reals.digest,
        lambda: look(reals.photo, len(reals.names), judges.extractor, "reals", asked.quiet),
    )
    results, pictures = [], []
    for subject, name in zip(asked.subjects, names, strict=True):
        result, images = _one(asked, subject, name, reals, judges, known)
        (asked.out / name).mkdir(parents=True, exist_ok=True)
        result.write(asked.out / name / "result.json")
        result.write_images(asked.out / name / "per-image.csv")
        results.append(result)
        pictures.append(images)
    return Judged(results, pictures, reals, list(asked.stored))


def _check_subject(asked: Asked, subject: Path) -> Generator | None:
    """The network of a run, or None of a folder that has images.

    Raises:
        UserError: for anything else.
    """
    if not (subject / CONFIG).is_file():
        if (subject / "result.json").is_file():
            raise UserError(f"{subject}: is a folder of results; give {subject / 'result.json'} to compare with it")
        if any(subject.glob(f"*/{CONFIG}")):
            read_config(subject)  # which says that one of several must be given
        Pictures(subject)
        return None
    generator = asked.load(subject)
    if not isinstance(generator, Generator):
        raise UserError(f"{subject}: holds a {type(generator).__name__}, which paints nothing")
    if isinstance(generator, UnaskedGenerator):
        raise UserError(
            f"{subject}: paints from seeds, and protocols judge paintings of scenes; `photogram sample RUN --out DIR` "
            "paints, and photogram.metrics compares sets from Python"
        )
    return generator


def _check_protocols(stored: Sequence[Result], protocol: Protocol) -> None:
    for result in stored:
        _agree(result, protocols_differ(result.protocol, protocol))


def _agree(stored: Result, why: str | None) -> None:
    if why is not None:
        raise UserError(f"{stored.subject['name']} does not compare with what is to be judged: {why}")


def _names(subjects: Sequence[Path]) -> list[str]:
    """What to call each: its folder's name, with the one above where that is not enough."""
    short = [path.resolve().name for path in subjects]
    names = [
        name if short.count(name) == 1 else f"{path.resolve().parent.name}-{name}"
        for name, path in zip(short, subjects, strict=True)
    ]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{twice}: two of what is to be judged have this name; rename one")
    return names


def _judges(asked: Asked, spec: SceneSpec) -> Judges:
    protocol = asked.protocol
    extractor = load_extractor(
        protocol.trunk,
        how=protocol.resize,
        precision=protocol.precision,
        file=asked.trunk_file,
    )
    if protocol.trunk_sha256 and extractor.digest != protocol.trunk_sha256:
        raise UserError(
            f"{asked.trunk_file or protocol.trunk}: has hash {extractor.digest[:12]}, but {protocol.name} looks "
            f"through {protocol.trunk_sha256[:12]}"
        )
    segmenter, digest = _segmenter(asked, spec)
    lpips = load_lpips(protocol.lpips)
    return Judges(extractor, lpips, segmenter, digest)


def _segmenter(asked: Asked, spec: SceneSpec) -> tuple[Any, str]:
    """The network that reads photographs, and the hash of its weights."""
    protocol = asked.protocol
    path = asked.segmenter
    if path is None:
        if not protocol.segmenter:
            return None, ""
        places = [folder / protocol.segmenter for folder in (asked.home, FOLDER)]
        path = next((place for place in places if place.exists()), places[0])
    if path.suffix == ".json":
        network: Any = ImportedSegmenter(path, spec)
        digest = network.digest
    else:
        network = asked.load(path)
        if not isinstance(network, Reader):
            raise UserError(f"{path}: holds a {type(network).__name__}, which does not read photographs")
        digest = weights_digest(network)
        differs = class_difference(network.spec, spec)
        if differs is not None:
            raise UserError(f"{path}: {differs}; give a segmenter that reads the data's classes")
    if protocol.segmenter_sha256 and digest != protocol.segmenter_sha256:
        raise UserError(
            f"{path}: has hash {digest[:12]}, but {protocol.name} reads with {protocol.segmenter_sha256[:12]}; a "
            "protocol with another segmenter is another protocol, so give it a file of its own"
        )
    return network, digest


def _one(asked: Asked, subject: Path, name: str, reals: Reals, judges: Judges, known: Seen) -> tuple[Result, Pictures]:
    """One subject: painted where it is a network, judged once for each seed, with what several seeds tell."""
    seeds = range(asked.protocol.seed, asked.protocol.seed + asked.repeats)
    protocols = [replace(asked.protocol, seed=seed) for seed in seeds]
    paints = (subject / CONFIG).is_file()
    painter = _Painter(asked, subject, name, reals) if paints else None
    sets = [Pictures(subject)] if painter is None else painter.paint(protocols[0])
    looked = look_at(sets, reals, protocols[0], judges, asked.quiet)
    found: list[Result] = []
    for protocol in protocols:
        if painter is not None and found:  # the images of a folder are the same for every seed
            looked = look_at(painter.paint(protocol), reals, protocol, judges, asked.quiet)
        found.append(measured(looked, known, reals, protocol, judges, name))
    first, repeats = found[0], {}
    for key in first.measures if len(found) > 1 else ():
        repeats[key] = Repeats.of([result.measures[key].value for result in found])
    doubts = [*first.warnings, *_doubts(asked, subject, paints, sets, reals)]
    if painter is not None:
        doubts += _doubts_of(painter, asked.protocol, [str(result.subject["sha256"]) for result in found])
    return replace(first, warnings=doubts, repeats=repeats), sets[0]


def _doubts(asked: Asked, subject: Path, paints: bool, sets: list[Pictures], reals: Reals) -> list[str]:
    doubts = []
    if asked.protocol.samples > 1 and not paints:
        doubts.append(f"{subject} is a folder of images: diversity needs a network that paints")
    if asked.repeats > 1 and not paints:
        doubts.append(f"{subject} is a folder of images: seeds change the subsets and resamples alone")
    strangers = sorted(set(sets[0].names) - set(reals.names))
    if strangers:
        doubts.append(f"{len(strangers)} images of {subject} belong to no layout and were left out ({strangers[0]})")
    return doubts


def _doubts_of(painter: _Painter, protocol: Protocol, hashes: Sequence[str]) -> list[str]:
    """What a reader must know of a network's paintings."""
    trained, name, doubts = painter.generator.spec.size, painter.out.name, []
    if max(max(a / b, b / a) for a, b in zip(trained, protocol.size, strict=True)) > 1.5:
        doubts.append(
            f"{name} was trained at {shape(trained)} and paints here at {shape(protocol.size)}, whose structures are "
            "of another size than those that it has learned"
        )
    if len(hashes) > 1 and len(set(hashes)) == 1:
        doubts.append(f"{name} paints the same for every seed: what differs between seeds is only what measures draw")
    return doubts


class _OneOf(Typed):
    """Options of a generator that paints several candidates in a pass: see `Generator.candidates`."""

    def __call__(self, *, candidates: int) -> NoOptions:
        """To keep the candidate of that number."""
        ...


class _Painter:
    """Paints the protocol's layouts with a network, into a folder for each sample."""

    def __init__(self, asked: Asked, subject: Path, name: str, reals: Reals):
        generator = _check_subject(asked, subject)
        assert generator is not None
        self.generator, self.subject, self.out, self.quiet = generator, subject, asked.out / name, asked.quiet
        by = "layouts" if generator.spec.num_classes else "images"
        folder = Folder(asked.data, asked.protocol.split, photos=False, learns_from=by)
        stems = {pair.stem: pair.first for pair in folder.pairs}
        missing = [name for name in reals.names if name not in stems]
        if missing:
            raise UserError(f"{subject}: paints from {by}, of which {asked.data} has none for {missing[0]}")
        self.items = [Item(stems[stem], stem) for stem in reals.names]
        self.made_of = {
            "network": type(generator).__name__,
            "weights": weights_digest(generator),
            "scenes": reals.scenes_digest,
            "size": asked.protocol.size,
        }

    def paint(self, protocol: Protocol) -> list[Pictures]:
        """The paintings of a seed, a folder for each sample; what is finished is not painted again."""
        return [self._sample(protocol, sample) for sample in range(protocol.samples)]

    def _sample(self, protocol: Protocol, sample: int) -> Pictures:
        """A layout's samples are the candidates of one pass where there are enough of them, else of other seeds."""
        options, seed = self.generator.Options(), protocol.seed + 1_000_003 * sample
        if self.generator.candidates > 1 and protocol.samples <= self.generator.candidates:
            options, seed = cast(_OneOf, self.generator.Options)(candidates=sample), protocol.seed
        made_of = json.dumps({**self.made_of, "options": asdict(options)}, sort_keys=True)
        which = f"sample-{sample}" if sample else "painted"
        name = f"{which}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
        out = self.out / f"seed-{protocol.seed}" / name
        summary = synthesize(
            self.generator,
            self.items,
            out,
            source=self.subject,
            seed=seed,
            size=protocol.size,
            options=options,
            precision="fp32",
            quiet=self.quiet,
        )
        if summary.failures:
            raise UserError(f"{self.subject}: {summary.failures[0]} ({summary.failed} such)")
        return Pictures(out)


def write_page(judged: Judged, out: Path) -> None:
    """`differ.png` and `evaluation.html`: where systems differ most, and everything in one file.

    Stored results are in its tables, and count where systems differ; their images are not at hand.
    """
    reals, results = judged.reals, [*judged.results, *judged.stored]
    place = {name: n for n, name in enumerate(reals.names)}
    size = judged.results[0].protocol.size
    pairs = zip(judged.results, judged.pictures, strict=True)
    contact = contact_sheet(
        most_different(results),
        lambda name: reals.asked(place[name]),
        {result.subject["name"]: _reader(images, size) for result, images in pairs},
        lambda name: reals.photo(place[name]),
    )
    write_image(contact, out / "differ.png")
    with replacing(out / "evaluation.html") as file:
        file.write(page(results, contact).encode())


def _reader(images: Pictures, size: tuple[int, int]) -> Callable[[str], np.ndarray]:
    return lambda name: images.read(name, size)


@dataclass(frozen=True)
class Compared:
    """Results side by side, and what was written for a person to open; None where nothing was judged."""

    results: list[Result]
    opened: Path | None


def compare(
    subjects: Sequence[Path],
    load: Load,
    *,
    protocol: str | None = None,
    data: Path | None = None,
    out: Path | None = None,
    segmenter: Path | None = None,
    trunk_file: Path | None = None,
    repeats: int = 1,
    brackets: bool = False,
    html: bool = False,
    quiet: bool = False,
) -> Compared:
    """Judge runs and folders of images side by side with stored results (`.json`): what `photogram evaluate` does.

    Args:
        subjects: what to compare, in this order but for stored results, which come last.
        load: opens a published network.
        protocol: a protocol's name, or its file.
        data: the data folder whose split is judged.
        out: gets a folder of the protocol's name; `evaluation` where nothing is said.
        segmenter: as in `Asked`.
        trunk_file: as in `Asked`.
        repeats: as in `Asked`.
        brackets: also judge the two brackets.
        html: also write the page, which several subjects get anyway.
        quiet: show no progress.

    Raises:
        UserError: for anything that would make the numbers not what the protocol says.
    """
    if not subjects:
        raise UserError("there is nothing to judge; give runs, or folders of images")
    files = [path for path in subjects if path.suffix == ".json"]
    judged_now = tuple(path for path in subjects if path.suffix != ".json")
    if not judged_now:
        idle = {"--protocol": protocol, "--data": data, "--out": out, "--segmenter": segmenter}
        idle |= {"--trunk-file": trunk_file, "--repeats": repeats > 1, "--brackets": brackets, "--html": html}
        given = [flag for flag, value in idle.items() if value not in (None, False)]
        if given:
            raise UsageError(
                f"{', '.join(given)}: no use where nothing is judged, since all results are stored; leave it out"
            )
        return Compared(_opened(files, []), None)
    if protocol is None or data is None:
        raise UsageError(f"{judged_now[0]}: to judge it, give --protocol NAME and --data DIR")
    chosen = load_protocol(protocol)
    home = FOLDER if protocol in shipped() else Path(protocol).parent
    out = (out or Path("evaluation")) / chosen.name
    places = Brackets.within(out / "brackets")
    judged_now += (places.photographs, places.retrieval) if brackets else ()
    stored = tuple(_opened(files, _names(judged_now)))
    _check_protocols(stored, chosen)
    if brackets:
        write_brackets(data, chosen, out / "brackets", quiet)
    asked = Asked(judged_now, chosen, data, out, load, home, segmenter, trunk_file, repeats, stored, quiet)
    judged = judge(asked)
    several = len(judged_now) + len(stored) > 1
    if html or several:
        write_page(judged, out)
    opened = out / "evaluation.html" if html or several else out / judged.results[0].subject["name"]
    return Compared([*judged.results, *judged.stored], opened)


def _opened(files: Sequence[Path], taken: Sequence[str]) -> list[Result]:
    """Stored results, each by a name of its own: where that is taken, with its file, and with a number if need be."""
    results = [read_result(path) for path in files]
    names = [*taken, *(str(result.subject["name"]) for result in results)]
    used: list[str] = []
    for path, result in zip(files, results, strict=True):
        name = str(result.subject["name"])
        used.append(f"{name} ({path})" if names.count(name) > 1 else name)
    found = []
    for n, (name, result) in enumerate(zip(used, results, strict=True)):
        twins = used[:n].count(name)
        found.append(replace(result, subject={**result.subject, "name": f"{name} #{twins + 1}" if twins else name}))
    return found
