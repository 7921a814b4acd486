"""The command line: which verb, and how mistakes end. The verbs themselves are in `commands/`.

Help, versions and unknown words are answered without importing torch, a recipe or the parser of flags.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from photogram.errors import UsageError, UserError, is_out_of_memory, nearest

HELP = """\
photogram: photographic images made without a camera

  photogram quickstart                        train on a toy world and paint, offline, in minutes: start here
  photogram prepare FORM SRC --out DATA       bring a data set into photogram's form
  photogram check DATA                        the data doctor: what is wrong with a data folder
  photogram plan RECIPE --data DATA           how much memory and time a training takes, and what makes it fit
  photogram train RECIPE --data DATA --out RUN    train; the same command again goes on
  photogram synthesize RUN LAYOUTS --out DIR  paint layouts or images with what a run has learned
  photogram sample RUN --count N --out DIR    photographs of a run that needs no layouts, by number; morphs between them
  photogram colorize RUN IMAGE --out PHOTO    a grey photograph in colours, by hints
  photogram cluster RUN --data DATA           the styles that a pix2pixhd's objects can have, from photographs
  photogram evaluate RUN --protocol P --data DATA    how good are its paintings; also folders of images, side by side
  photogram import SOURCE FILE --out DIR      the authors' released networks, of crn, pix2pix, cyclegan, pix2pixhd

Each verb has --help. Forms: {forms}. Recipes: {recipes}.
Exit status: 0 all well, 1 a mistake that the message names, 2 unknown words or flags, 130 interrupted.
"""
# Spelt out, so that help need not import them; tests compare them with what there is.
VERBS = (
    *("quickstart", "prepare", "check", "plan", "train", "synthesize", "sample"),
    *("colorize", "cluster", "evaluate", "import"),
)
FORMS = (
    *("cityscapes", "camvid", "coco-stuff", "coco-panoptic", "coco-instances"),
    *("nyu", "palette", "toy", "vivid", "coarsen"),
    *("edges", "sketches", "pairs", "manifest", "unpaired", "grey"),
)
RECIPES = (
    *("crn", "full-resolution", "encoder-decoder"),
    *("gan", "pix2pix", "pix2pixhd", "cyclegan", "colorization", "gan-segmentation", "segmenter"),
)


def main(arguments: Sequence[str]) -> int:
    """Run one verb and return the exit status; mistakes end in one line on stderr, never in a traceback."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(forms=", ".join(FORMS), recipes=", ".join(RECIPES)), end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from photogram import __version__

        print(f"photogram {__version__}")
        return 0
    verb, rest = arguments[0], list(arguments[1:])
    if verb not in VERBS:
        return complain(f"unknown verb {verb!r}{nearest(verb, list(VERBS))}; `photogram --help` lists them", 2)
    from photogram import commands

    try:
        return commands.VERBS[verb](rest)
    except UserError as e:
        return complain(str(e), 2 if isinstance(e, UsageError) else 1)
    except KeyboardInterrupt as e:
        return complain(str(e) or "interrupted; the same command again goes on, or begins", 130)
    except BrokenPipeError:  # the reader of our output has gone; not our mistake
        sys.stdout = None
        return 1
    except OSError as e:
        return complain(f"{e.filename or 'a file'}: {e.strerror or e}", 1)
    except (MemoryError, RuntimeError) as e:
        if not is_out_of_memory(e):
            raise
        return complain("out of memory; a smaller --size, --batch-size or --widths needs less", 1)


def complain(message: str, status: int) -> int:
    """Write one line in our voice to stderr, and pass on the exit status."""
    print(f"photogram: {message}", file=sys.stderr)
    return status
