"""Flags that do not fit: one line, which names the flag and what would fit, and status 2."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from photogram.cli import main
from photogram.errors import UserError
from photogram.metrics.shipped import shipped
from photogram.nn.perceptual import load_features

TRAIN = ["train", "crn", "--data", "x", "--out", "y"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*TRAIN, "--stpes", "3"], "unknown flag --stpes (did you mean '--steps'?)"),
        ([*TRAIN, "--steps", "abc"], "--steps: 'abc' is no integer"),
        ([*TRAIN, "--steps", "3", "--learning-rate", "fast"], "--learning-rate: 'fast' is no number"),
        (TRAIN, "missing: --steps"),
        ([*TRAIN, "--steps", "3", "--size", "48"], "--size: '48' is not INT INT"),
        (["synthesize", "a", "b", "--out", "c", "--size", "natve"], "--size: 'natve' is not INT INT or native"),
        ([*TRAIN, "--steps", "3", "--precision", "fp8"], "invalid choice 'fp8' for argument '--precision'"),
        (
            ["train", "pix2pixhd", *TRAIN[2:], "--steps", "3", "--features", "object"],
            "'object' for argument '--features' (did you mean 'objects'?); there is none, objects, classes; `photogram",
        ),
        (
            ["synthesize", "a", "b", "--out", "c", "--format", "jpeg"],
            "invalid choice 'jpeg' for argument '--format' (did you mean 'jpg'?); there is ",
        ),
        (["train", "cnr"], "unknown recipe 'cnr' (did you mean 'crn'?)"),
        (["train"], "give a recipe first"),
        (["prepare", "palete", "x", "--out", "y"], "unknown form 'palete' (did you mean 'palette'?)"),
        (["prepare"], "give a form first"),
        (["prepare", "palette", "--out", "y"], "missing: PATH"),
        (["check"], "missing: PATH"),
        (["check", "a", "b"], "b"),
        (["evaluate", "a", "--protocol"], "'--protocol'"),
        (["quickstart", "--out"], "'--out'"),
    ],
)
def test_one_line_says_what_does_not_fit(words, said, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("photogram: ")
    assert (said in err and "--help` says more" in err) or "there is" in err
    assert not set("│╭╮╰╯─{}") & set(err) and ").;" not in err and "None" not in err


@pytest.mark.parametrize(
    "words", [["train", "crn"], ["prepare", "toy"], ["prepare"], ["train"], ["check"], ["evaluate"]]
)
def test_help_is_printed_whole(words, capsys):
    with pytest.raises(SystemExit) as e:
        main([*words, "--help"])
    assert e.value.code in (0, None)
    assert "usage: photogram" in capsys.readouterr().out


def test_what_a_command_prints_is_not_caught(tmp_path, capsys):
    assert (
        main(["prepare", "toy", "--out", str(tmp_path / "t"), "--train", "2", "--val", "1", "--size", "16", "24"]) == 0
    )
    out, _ = capsys.readouterr()
    assert "2 scenes to train on" in out


def test_help_names_the_protocols(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    said = re.sub(r"[│\s]", "", capsys.readouterr().out)
    assert [name for name in shipped() if name not in said] == [], said


def test_an_unknown_feature_network_leaves_pixels_alone_as_a_way():
    with pytest.raises(UserError, match=r"neither vgg19 nor squeezenet.*; none compares pixels alone"):
        load_features("vgg18")


@pytest.mark.parametrize("words", [["--version"], ["nonsense"]])
def test_ctrl_c_after_the_work_is_done_ends_it_in_no_other_way(words):
    """While the interpreter takes itself apart, which may take a moment."""
    code = (
        "import atexit, os, signal, sys; from photogram.__main__ import main; "
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == (0 if words == ["--version"] else 2) and "Traceback" not in done.stderr
