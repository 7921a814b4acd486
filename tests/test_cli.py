"""The command line: help without torch, one line for each mistake, exit statuses, no traceback."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from photogram import cli, commands
from photogram.cli import main
from photogram.errors import UserError
from photogram.recipes import members, word

TINY = ["--widths", "8", "8", "8", "--perceptual", "squeezenet", "--size", "32", "48", "--workers", "0"]


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    """What went to stderr, which must be one line in our voice (progress lines apart)."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("photogram: ")]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "toy"
    assert main(["prepare", "toy", "--out", str(folder), "--size", "32", "48", "--train", "6", "--val", "3"]) == 0
    return folder


@pytest.fixture(scope="module")
def run(toy: Path) -> Path:
    out = toy.parent / "run"
    assert main(["train", "crn", "--data", str(toy), "--out", str(out), "--steps", "3", *TINY]) == 0
    return out


def test_help_lists_every_verb_form_and_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in (*cli.VERBS, *cli.FORMS, *cli.RECIPES):
        assert name in text


def test_the_recipes_in_the_help_are_those_of_the_union() -> None:
    assert list(cli.RECIPES) == [word(recipe) for recipe in members()]
    assert list(cli.VERBS) == list(commands.VERBS)


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"photogram {verb}" in capsys.readouterr().out


def test_the_forms_in_the_help_are_those_that_prepare_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    assert f"{{{','.join(cli.FORMS)}}}" in capsys.readouterr().out.replace("\n", "").replace(" ", "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("photogram 0.")


def test_an_unknown_verb_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in errors(capsys)


def test_an_unknown_recipe_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "cnr", "--data", "x"]) == 2
    assert "did you mean 'crn'" in errors(capsys)


def test_a_missing_recipe_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "x", "--out", "y", "--steps", "1"]) == 2
    assert "give a recipe first" in errors(capsys)


def test_an_empty_val_and_missing_instances_are_mentioned_and_stop_nothing(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy, data)
    for file in [*(data / "val").rglob("*.png"), sorted((data / "train/instances").iterdir())[0]]:
        file.unlink()
    assert main(["train", "crn", "--data", str(data), "--out", str(tmp_path / "run"), "--steps", "1", *TINY]) == 0
    shown = capsys.readouterr().err
    assert "warning: instances-partly-missing" in shown
    assert "Traceback" not in shown


def test_a_lack_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def starve(arguments: object) -> int:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: ...")

    monkeypatch.setitem(commands.VERBS, "check", starve)
    assert main(["check", "x"]) == 1
    assert "out of memory" in errors(capsys)


def test_other_runtime_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setitem(commands.VERBS, "check", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["check", "x"])


def test_a_missing_data_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", "crn", "--data", str(tmp_path / "none"), "--out", str(out), "--steps", "1", *TINY]) == 1
    assert str(tmp_path / "none") in errors(capsys)
    assert not out.exists()


def test_a_size_that_cannot_be_done_names_the_nearest(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "crn", "--data", str(toy), "--out", str(toy.parent / "no"), "--steps", "1", *TINY]
    arguments[arguments.index("--size") + 1] = "30"
    assert main(arguments) == 1
    assert "28 and 32" in errors(capsys)
    assert not (toy.parent / "no").exists()


def test_a_wrong_label_stops_the_training_by_name_before_the_first_step(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from photogram.images import read_labels, write_image

    data = tmp_path / "data"
    shutil.copytree(toy, data)
    layout = sorted((data / "train/layouts").iterdir())[2]
    labels = read_labels(layout)
    labels[5, 7] = 200
    write_image(labels, layout)
    assert main(["train", "crn", "--data", str(data), "--out", str(tmp_path / "run"), "--steps", "1", *TINY]) == 1
    shown = capsys.readouterr().err
    assert layout.name in shown and "200" in shown and "row 5" in shown
    assert "Traceback" not in shown
    assert main(["check", str(data)]) == 1
    assert main(["check", str(toy)]) == 0


def test_check_prints_json_for_programs(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(toy), "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_training_goes_on_and_other_settings_are_refused(
    toy: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["train", "crn", "--data", str(toy), "--out", str(run), *TINY]
    assert main([*base, "--steps", "5"]) == 0
    assert len((run / "log.jsonl").read_text().splitlines()) == 5
    capsys.readouterr()
    assert main([*base, "--steps", "6", "--learning-rate", "1e-3"]) == 1
    message = errors(capsys)
    assert "learning_rate" in message and "0.0001" in message and "0.001" in message


def test_synthesize_paints_and_skips(toy: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["synthesize", str(run), str(toy / "val/layouts"), "--out", str(tmp_path / "painted"), "--sheet"]
    assert main(arguments) == 0
    assert "3 painted, 0 were there" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "0 painted, 3 were there" in capsys.readouterr().out
    assert len(list((tmp_path / "painted").glob("*.png"))) == 4


def test_synthesize_from_a_folder_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthesize", str(tmp_path), "x.png", "--out", str(tmp_path / "o")]) == 1
    assert "config.json" in errors(capsys)


@pytest.mark.parametrize("words", ["train crn --data TOY --out OUT --steps 1 --from FILE", "cluster FILE --data TOY"])
def test_a_file_where_a_run_is_asked_for_is_called_a_file(
    words: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").touch()
    places = {"FILE": tmp_path / "x.png", "TOY": toy, "OUT": tmp_path / "o"}
    sizes = TINY if words.startswith("train") else []
    assert main([*(str(places.get(word, word)) for word in words.split()), *sizes]) == 1
    assert "x.png: is a file, not a folder; give the folder of a run" in errors(capsys)


def test_from_hands_a_run_over(toy: Path, run: Path, tmp_path: Path) -> None:
    arguments = ["train", "crn", "--data", str(toy), "--out", str(tmp_path / "longer"), "--steps", "1", *TINY]
    arguments[arguments.index("--widths") + 4 : arguments.index("--widths") + 4] = ["8"]
    assert main([*arguments, "--from", str(run)]) == 0
    assert json.loads((tmp_path / "longer/run.json").read_text())["from"] == str(run)


def test_bad_flags_end_with_status_2() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "photogram", "check", "--jsn"], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_what_a_recipe_is_asked_by_can_be_chosen_where_it_can_take_either(tmp_path: Path) -> None:
    """Of data with layouts and inputs; others say that there is nothing to choose."""
    from photogram.commands.train import parts_for
    from photogram.recipes.crn import CRN
    from photogram.recipes.pix2pix import Pix2Pix

    assert [parts_for(Pix2Pix(), by) for by in ("any", "layouts", "images")] == ["any", "layouts", "images"]
    assert parts_for(CRN(), "any") == "layouts"
    with pytest.raises(UserError, match="--asked-by images: this recipe learns from layouts; leave it out"):
        parts_for(CRN(), "images")
