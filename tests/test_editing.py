"""Edit sessions: every operation against a slow twin, undo, what is kept ready, paintings, files (check 10.13)."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
import torch
from jaxtyping import Float
from tiny_painter import CAR, LEFT, NOTHING, RIGHT, ROAD, SKY, TREE, TinyPainter, bits, painter, spec, street
from torch import Tensor

from photogram import edits
from photogram.edit_history import STEPS
from photogram.editing import EditSession
from photogram.edits import State
from photogram.errors import UserError
from photogram.generator import Generator
from photogram.kept_condition import KeptCondition
from photogram.nn.regions import find_regions, spread
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.scene import Condition, Layout, SceneSpec
from photogram.strokes import Box, box_of


def session(**more: object) -> EditSession:
    return EditSession(painter(), street(), **more)  # pyright: ignore[reportArgumentType]


# Check 10.13.


def test_a_style_changes_the_object_more_than_what_is_around_it() -> None:
    one = session()
    before, mask = one.render().photo, torch.from_numpy(one.state.mask(LEFT))
    one.set_style(LEFT, 2)
    change = (one.render().photo - before).abs().mean((0, 1))
    assert change[mask].mean() > 20 * change[~mask].mean() > 0, "outside, the mean of the whole alone"
    assert one.style_of(RIGHT) == one.state.defaults[CAR]


def test_undo_and_redo_restore_every_bit() -> None:
    one = session()
    states, photos = [bits(one)], [one.render().photo]
    steps = [
        lambda: one.add(np.ones((5, 6), dtype=bool), CAR, 3, (40, 2)),
        lambda: one.set_class_style(SKY, (0.1, 0.2, 0.3)),
        lambda: one.move(LEFT, -15, 4),
        lambda: one.brush(CAR, [(5, 5), (30, 9)], 5),
        lambda: one.relabel(RIGHT, TREE),
        lambda: one.remove(LEFT),
        lambda: one.sample_styles(3),
        lambda: one.reset(),
    ]
    for step in steps:
        step()
        states.append(bits(one))
        photos.append(one.render().photo)
    assert len(set(states[:-1])) == len(steps), "every step changes something"
    assert states[-1] == states[0], "reset goes back to the start"
    for at in reversed(range(len(steps))):
        assert one.undo()
        assert bits(one) == states[at] and torch.equal(one.render().photo, photos[at])
    assert not one.undo() and bits(one) == states[0]
    for at in range(1, len(steps) + 1):
        assert one.redo()
        assert bits(one) == states[at] and torch.equal(one.render().photo, photos[at])
    assert not one.redo()


def test_two_things_that_are_added_side_by_side_have_a_boundary() -> None:
    one, square = session(), np.ones((8, 8), dtype=bool)
    left, right = one.add(square, CAR, position=(46, 2)), one.add(square, CAR, position=(54, 2))
    assert left != right and left[1] == 10 and right[1] == 11
    assert (one.render().photo[0, :, 3:9, 53:55] == 1).all(), "the network shows it"
    assert (one.render().photo[0, :, 4:8, 48:52] < 1).all()


def test_nothing_is_left_of_what_is_removed() -> None:
    one = session()
    mask = one.state.mask(LEFT)
    one.remove(LEFT)
    assert not (one.state.instances == 7).any() and LEFT not in one.regions
    assert (one.state.classes[mask] == ROAD).all() and not one.state.instances[mask].any()
    with pytest.raises(UserError, match="no object 7 of class 2"):
        one.remove(LEFT)


def test_a_new_sample_of_one_object_leaves_the_others() -> None:
    one = session(style="drawn")
    before = {region: one.style_of(region) for region in one.regions}
    seeds = [seed for seed in range(20) if _sampled(one, seed, LEFT) != before[LEFT]]
    assert seeds, "another seed, another style"
    assert {r: one.style_of(r) for r in one.regions if r != LEFT} == {r: s for r, s in before.items() if r != LEFT}
    one.sample_styles(seeds[0])
    everywhere = {region: one.style_of(region) for region in one.regions}
    assert everywhere[LEFT] == _sampled(session(), seeds[0], LEFT), "the same alone and with all others"


def _sampled(one: EditSession, seed: int, region: tuple[int, int]) -> edits.Style:
    one.sample_styles(seed, [region])
    return one.style_of(region)


def test_a_painting_is_the_same_bits_after_what_changes_nothing() -> None:
    one = session()
    first = one.render()
    one.move(LEFT, 0, 0)
    one.scale(LEFT, 1.0)
    one.relabel(LEFT, CAR)
    one.set_style(LEFT, one.style_of(LEFT))  # a style of its own now, the same
    one.undo()
    one.brush(ROAD, [(60, 45)], 1)
    assert one.at(60, 45) == (ROAD, 0)
    assert torch.equal(one.render().photo, first.photo)


def test_no_step_is_taken_where_nothing_changes() -> None:
    one = session()
    one.move(LEFT, 0, 0)
    one.brush(ROAD, [(60, 45)], 3)
    one.relabel(LEFT, CAR)
    one.reset()
    assert one.revision == 0 and not one.undo()


# Operations against plain arrays.


def test_states_are_never_changed() -> None:
    one = session()
    state, before = one.state, (one.state.classes.copy(), one.state.instances.copy())
    one.brush(CAR, [(3, 3)], 5)
    one.move(LEFT, 3, 3)
    assert (state.classes == before[0]).all() and (state.instances == before[1]).all() and not state.styles
    with pytest.raises(ValueError, match="read-only"):
        state.classes[0, 0] = 1


def test_a_layout_is_copied_and_given_back_as_a_copy() -> None:
    layout = street()
    one = EditSession(painter(), layout)
    before = bits(one)
    layout.classes.fill_(NOTHING)
    one.layout.classes.fill_(NOTHING)
    assert bits(one) == before


def test_brushes_draw_new_objects_or_let_one_grow() -> None:
    one = session()
    first, second = one.brush(CAR, [(5, 5)], 3), one.brush(CAR, [(10, 5)], 3)
    assert (first, second) == ((CAR, 10), (CAR, 11))
    assert one.brush(CAR, [(6, 9)], 3, into=first) == first
    assert one.regions[first] == 18 and one.regions[second] == 9
    assert one.brush(SKY, [(40, 35)], 5) == (SKY, 0), "stuff has no number"
    assert not one.state.instances[34:37, 39:42].any()
    assert one.brush(CAR, [(6, 12)], 1) == (CAR, 12)


def test_what_is_added_is_clipped_to_the_frame() -> None:
    mask = np.arange(30).reshape(5, 6) % 3 > 0
    for x, y in ((-2, -3), (61, 45), (0, 0), (60, -4)):
        one = session()
        added = one.add(mask, CAR, position=(x, y))
        expected = np.zeros((48, 64), dtype=bool)
        for r, c in np.argwhere(mask):
            if 0 <= y + r < 48 and 0 <= x + c < 64:
                expected[y + r, x + c] = True
        assert (one.state.mask(added) == expected).all()
    with pytest.raises(UserError, match="position 64 0: nothing of it"):
        session().add(mask, CAR, position=(64, 0))


def test_what_is_added_has_its_style_or_that_of_its_class() -> None:
    one, square = session(), np.ones((3, 3), dtype=bool)
    one.set_class_style(CAR, 3)
    plain, own = one.add(square, CAR), one.add(square, CAR, 1, (8, 0))
    assert one.style_of(plain) == tuple(painter().style_centres[CAR, 3].tolist()) == one.style_of(LEFT)
    assert one.style_of(own) == tuple(painter().style_centres[CAR, 1].tolist())
    assert one.render().photo[0, :, 1, 9].tolist() != one.render().photo[0, :, 1, 1].tolist()


def test_a_class_style_reaches_all_of_the_class_and_nothing_else() -> None:
    one = session(style="drawn")
    before = {region: one.style_of(region) for region in one.regions}
    one.set_class_style(CAR, (0.5, 0.25, 0.125))
    for region in one.regions:
        assert one.style_of(region) == ((0.5, 0.25, 0.125) if region[0] == CAR else before[region])


@pytest.mark.parametrize(("dx", "dy"), [(-9, -12), (15, 3), (-30, 0), (0, 15)])
def test_a_moved_object_keeps_number_and_style(dx: int, dy: int) -> None:
    one = session()
    one.set_style(LEFT, 2)
    mask, style = one.state.mask(LEFT), one.style_of(LEFT)
    without = edits.remove(one.state, LEFT)
    one.move(LEFT, dx, dy)
    expected = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        if 0 <= y + dy < 48 and 0 <= x + dx < 64:
            expected[y + dy, x + dx] = True
    assert (one.state.mask(LEFT) == expected).all() and one.style_of(LEFT) == style
    assert (one.state.classes[~expected] == without.classes[~expected]).all()
    assert (one.state.instances[~expected] == without.instances[~expected]).all()
    one.undo()
    with pytest.raises(UserError, match="would leave the frame"):
        one.move(LEFT, 64, 0)


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.5, 2.0, 3.7])
def test_a_scaled_object_is_a_double_loop_over_its_box(factor: float) -> None:
    one = session()
    one.brush(CAR, [(22, 30), (38, 24)], 3, into=LEFT)  # no rectangle
    mask = one.state.mask(LEFT)
    box = box_of(mask)
    assert box is not None
    h, w = box.size
    height, width = round(h * factor), round(w * factor)
    top, left = box.top + (h - height) // 2, box.left + (w - width) // 2
    expected = np.zeros_like(mask)
    for y, x in np.ndindex(height, width):
        inside = mask[box.top + (2 * y + 1) * h // (2 * height), box.left + (2 * x + 1) * w // (2 * width)]
        if inside and 0 <= top + y < 48 and 0 <= left + x < 64:
            expected[top + y, left + x] = True
    one.scale(LEFT, factor)
    assert (one.state.mask(LEFT) == expected).all()
    for bad in (0.0, -1.0, float("nan"), 100.0):
        with pytest.raises(UserError, match="factor"):
            one.scale(LEFT, bad)


def test_what_was_behind_is_the_nearest_that_is_no_object() -> None:
    classes = torch.tensor([[[ROAD, CAR, CAR, SKY, CAR, NOTHING]]], dtype=torch.uint8)
    numbers = torch.tensor([[[0, 1, 1, 0, 2, 0]]], dtype=torch.int32)
    one = EditSession(painter(), Layout(classes, numbers))
    one.remove((CAR, 1))
    assert one.state.classes.tolist() == [[ROAD, ROAD, SKY, SKY, CAR, NOTHING]]
    one.remove((CAR, 2))
    assert one.state.classes.tolist() == [[ROAD, ROAD, SKY, SKY, SKY, NOTHING]], "never void, nor objects"
    one.remove((SKY, 0))
    assert one.state.classes.tolist() == [[ROAD] * 5 + [NOTHING]]
    with pytest.raises(UserError, match="nothing but objects to fill with"):
        one.remove((ROAD, 0))
    one.remove((ROAD, 0), fill=TREE)
    assert one.state.classes.tolist() == [[TREE] * 5 + [NOTHING]]
    with pytest.raises(UserError, match="is the class that is taken away"):
        one.remove((TREE, 0), fill=TREE)


def test_what_is_filled_with_a_class_of_objects_is_a_new_object() -> None:
    one = session()
    one.remove((TREE, 0), fill=CAR)
    assert one.regions[CAR, 10] == 160


def test_another_class_gives_a_new_number_and_that_class_style() -> None:
    one = session()
    one.set_style(LEFT, 2)
    now = one.relabel(LEFT, SKY)
    assert now == (SKY, 0) and one.style_of(now) == one.state.defaults[SKY]
    back = one.relabel(RIGHT, TREE)
    assert back == (TREE, 0)
    tree = one.relabel((TREE, 0), CAR)
    assert tree == (CAR, 10) and one.style_of(tree) == one.state.defaults[CAR]
    assert (CAR, 7) not in one.state.styles, "what was before is forgotten"
    assert one.relabel(tree, CAR) == tree


def test_which_classes_have_objects_can_be_told() -> None:
    plain = Layout(street().classes)
    assert EditSession(painter(), plain).state.things == frozenset()
    one = EditSession(painter(), plain, things=[CAR, TREE])
    assert one.brush(TREE, [(3, 3)], 3) == (TREE, 1)
    with pytest.raises(UserError, match="things: class 9"):
        EditSession(painter(), plain, things=[9])


# Styles of photographs.


def test_a_style_is_taken_from_an_object_of_a_photograph() -> None:
    one, photo = session(), torch.full((1, 3, 48, 64), -0.5)
    other = street()
    photo[0, :, 28:40, 32:44] = torch.tensor([0.5, 0.25, 0.75])[:, None, None]
    before = one.style_of(RIGHT)
    one.take_style(LEFT, photo, other, RIGHT)
    assert one.style_of(LEFT) == pytest.approx((0.5, 0.25, 0.75)) and one.style_of(RIGHT) == before
    with pytest.raises(UserError, match="no object 3 of class 2"):
        one.take_style(LEFT, photo, other, (CAR, 3))
    with pytest.raises(UserError, match="photograph is"):
        one.take_style(LEFT, photo[..., :-1], other, RIGHT)


def test_all_styles_of_a_photograph_paint_its_colours() -> None:
    one, photo = session(), torch.zeros(1, 3, 48, 64)
    for n, region in enumerate(one.regions):
        photo[0, :, torch.from_numpy(one.state.mask(region))] = n / 8
    one.take_styles(photo)
    assert [one.style_of(region) for region in one.regions] == [pytest.approx((n / 8,) * 3) for n in range(5)]
    assert one.undo() and one.style_of(LEFT) == one.state.defaults[CAR] and not one.undo()


def test_by_classes_a_style_is_that_of_all_the_class() -> None:
    one = EditSession(painter(style_by="classes"), street())
    one.set_style(LEFT, 2)
    assert one.style_of(RIGHT) == one.style_of(LEFT)
    one.relabel(LEFT, TREE)
    assert one.style_of(RIGHT) == tuple(painter().style_centres[CAR, 2].tolist()), "the class keeps it"
    one.sample_styles(5)
    expected = one.generator.sample(one.layout, 5)
    assert torch.equal(one.render().photo, expected)


# What is kept ready.


def random_edit(one: EditSession, draws: np.random.Generator) -> None:
    """Some operation on something, which may be refused."""
    regions = list(one.regions)
    region = regions[int(draws.integers(len(regions)))]
    label, x, y = int(draws.integers(5)), int(draws.integers(-5, 70)), int(draws.integers(-5, 50))
    fill = "nearest" if draws.random() < 0.5 else int(draws.integers(5))
    style = tuple(draws.uniform(-1, 1, 3).tolist())
    edit = [
        lambda: one.brush(label, [(x, y), (x + 9, y - 4)], int(draws.integers(1, 9))),
        lambda: one.brush(region[0], [(x, y)], 4, into=region),
        lambda: one.add(draws.random((7, 5)) < 0.5, label, None, (x, y)),
        lambda: one.add(draws.random((3, 9)) < 0.5, label, style, (x, y)),
        lambda: one.move(region, x - 30, y - 20, fill),
        lambda: one.scale(region, float(draws.uniform(0.3, 2)), fill),
        lambda: one.remove(region, fill),
        lambda: one.relabel(region, label),
        lambda: one.set_style(region, style),
        lambda: one.set_class_style(label, style),
        lambda: one.sample_styles(int(draws.integers(99))),
        lambda: one.undo(),
        lambda: one.undo(),
        lambda: one.redo(),
        lambda: one.reset() if draws.random() < 0.1 else None,
    ][int(draws.integers(15))]
    with contextlib.suppress(UserError):
        edit()


@pytest.mark.parametrize("style_by", ["objects", "classes"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_is_what_would_be_made_anew(seed: int, style_by) -> None:
    one, draws = EditSession(painter(style_by=style_by), street()), np.random.default_rng(seed)
    table = torch.empty(0)
    for _ in range(150):
        random_edit(one, draws)
        state, kept, layout = one.state, one.kept, one.layout
        assert torch.equal(kept.layout.classes, layout.classes)
        assert layout.instances is not None and kept.layout.instances is not None
        assert torch.equal(kept.layout.instances, layout.instances)
        found = find_regions(layout, style_by)
        pairs = zip(found.classes.tolist(), found.objects.tolist(), strict=True)
        table = torch.tensor([state.style_of(region) for region in pairs])
        assert torch.equal(kept.features, spread(table, found))
        every = find_regions(layout)
        of_each = zip(every.classes.tolist(), every.objects.tolist(), strict=True)
        assert list(kept.present.items()) == list(zip(of_each, every.pixels.tolist(), strict=True))
    assert one.revision > 60
    assert torch.equal(one.render().photo, painter(style_by=style_by).sample_styles(one.layout, table))


def test_steps_are_forgotten_from_the_oldest_on() -> None:
    one = session()
    for n in range(STEPS + 20):
        one.set_style(LEFT, (n / 1000, 0.0, 0.0))
    assert sum(one.undo() for _ in range(STEPS + 20)) == STEPS
    assert one.style_of(LEFT)[0] == pytest.approx(19 / 1000)


def test_an_edit_after_undo_ends_what_could_be_done_again() -> None:
    one = session()
    one.set_style(LEFT, 1)
    one.undo()
    one.set_style(LEFT, 2)
    assert not one.redo()


# Paintings.


@pytest.mark.parametrize("multiple", [1, 16])
def test_what_is_drawn_by_a_seed_is_what_the_generator_paints_of_it(multiple: int) -> None:
    network = painter(multiple=multiple)
    one = EditSession(network, street(), seed=4, style="drawn")
    assert torch.equal(one.render().photo, network.sample(street(), 4))
    assert not one.undo(), "how it began is no step"


def test_a_preview_says_that_it_is_one() -> None:
    one = session(style="drawn")
    full, small = one.render(), one.preview(2)
    assert not full.preview and small.preview
    assert small.photo.shape == (1, 3, 24, 32) and str(small) == "preview 1/2, 24 x 32, revision 0"
    assert str(full) == "full, 48 x 64, revision 0" and one.preview(1).preview is False
    expected = one.generator.sample(street().resized((24, 32)), 0)
    assert torch.equal(small.photo, expected), "a whole pass of its own"
    one.set_style(LEFT, 1)
    assert one.preview(4).revision == 1
    with pytest.raises(UserError, match="divisor 3"):
        one.preview(3)


def test_the_gallery_shows_each_cluster_in_the_object_s_box() -> None:
    one = session()
    before = bits(one)
    shown = one.gallery(LEFT)
    assert shown.shape == (4, 3, 48, 64), "the frame is smaller than 128"
    for k in range(4):
        twin = session()
        twin.set_style(LEFT, k)
        assert torch.equal(shown[k : k + 1], twin.render().photo)
    assert bits(one) == before and one.revision == 0
    with pytest.raises(UserError, match="class 3: has no clusters"):
        one.gallery((TREE, 0))


def test_boxes_have_a_least_side_and_stay_in_the_frame() -> None:
    classes = torch.zeros(1, 300, 400, dtype=torch.uint8)
    numbers = torch.zeros(1, 300, 400, dtype=torch.int32)
    classes[:, 5:15, 380:399], numbers[:, 5:15, 380:399] = CAR, 1
    classes[:, 100:260, 150:160], numbers[:, 100:260, 150:160] = CAR, 2
    one = EditSession(painter(), Layout(classes, numbers))
    assert one.box((CAR, 1)) == Box(5, 380, 15, 399)
    assert one.box((CAR, 1), 128) == Box(0, 272, 128, 400)
    assert one.box((CAR, 2), 128) == Box(100, 91, 260, 219)
    assert one.gallery((CAR, 1)).shape == (4, 3, 128, 128)
    assert torch.equal(one.gallery((CAR, 1))[0], one.render().photo[0, :, :128, 272:])


class Plain(Generator):
    """Paints classes and its seed; knows no styles."""

    def __init__(self, *, spec: SceneSpec):
        super().__init__()
        self.spec, self.gain = spec, torch.nn.Parameter(torch.ones(()))

    @property
    def size_multiple(self) -> int:
        return 4

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        layout = condition.layout
        assert layout is not None
        picture = self.gain * layout.classes.float()[:, None].repeat(1, 3, 1, 1) / 5
        return picture + 0.1 * torch.rand(picture.shape, generator=noise)


def test_any_generator_of_layouts_can_be_edited() -> None:
    network = Plain(spec=spec())
    one = EditSession(network, street(), seed=3)
    first = one.render().photo
    assert torch.equal(first, network.sample(street(), 3)) and torch.equal(one.render().photo, first)
    one.move(LEFT, -4, -20)
    assert torch.equal(one.render().photo, network.sample(one.layout, 3))
    assert one.preview(2).photo.shape == (1, 3, 24, 32) and one.styled is None
    one.undo()
    assert torch.equal(one.render().photo, first)
    for refused in (
        lambda: one.set_style(LEFT, 1),
        lambda: one.sample_styles(1),
        lambda: one.gallery(LEFT),
        lambda: one.take_styles(first),
    ):
        with pytest.raises(UserError, match="Plain paints without styles"):
            refused()
    bare = EditSession(TinyPainter(spec(), style_channels=0), street())
    assert bare.render().photo.shape == (1, 3, 48, 64)
    with pytest.raises(UserError, match="trained without styles"):
        bare.set_style(LEFT, (1.0, 1.0, 1.0))


# Mistakes.


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    one = session()
    before, square = bits(one), np.ones((2, 2), dtype=bool)
    mistakes = {
        "class 5": lambda: one.brush(5, [(1, 1)], 3),
        "class -1": lambda: one.add(square, -1),
        "width 0": lambda: one.brush(ROAD, [(1, 1)], 0),
        "width 1024": lambda: one.brush(ROAD, [(1, 1)], 1024),
        "points": lambda: one.brush(ROAD, [], 3),
        "finite x and y": lambda: one.brush(ROAD, [(float("nan"), 1.0)], 3),
        "object 7 is of class 2": lambda: one.brush(ROAD, [(1, 1)], 3, into=LEFT),
        "no object 44": lambda: one.brush(CAR, [(1, 1)], 3, into=(CAR, 44)),
        "no region of class 4": lambda: one.remove((NOTHING, 0)),
        "style 4: class 2 has clusters 0..3": lambda: one.set_style(LEFT, 4),
        "style 0: class 3 has no clusters": lambda: one.set_style((TREE, 0), 0),
        "3 finite numbers": lambda: one.set_style(LEFT, (1.0, 2.0)),
        "must be 3 finite": lambda: one.set_class_style(CAR, (1.0, 2.0, float("inf"))),
        "class 17": lambda: one.set_class_style(17, 0),
        "lies outside": lambda: one.at(64, 0),
        "no object 3": lambda: one.sample_styles(1, [(CAR, 3)]),
    }
    for said, mistake in mistakes.items():
        with pytest.raises(UserError, match=said):
            mistake()
        assert bits(one) == before and not one.undo()


def test_sessions_that_cannot_begin() -> None:
    two = Layout(*(torch.cat([m, m]) for m in street() if m is not None))
    with pytest.raises(UserError, match="a batch of 2"):
        EditSession(painter(), two)
    with pytest.raises(UserError, match="class 9 at"):
        EditSession(painter(), Layout(torch.full((1, 4, 4), 9)))
    with pytest.raises(UserError, match="does not paint from layouts alone"):
        EditSession(Plain(spec=SceneSpec((), (8, 8), image_channels=1)), street())
    with pytest.raises(UserError, match="32 bits"):
        EditSession(painter(), Layout(street().classes, torch.full((1, 48, 64), 1 << 40)))


def test_features_with_one_style_exchanged() -> None:
    one = session()
    kept, state = KeptCondition(one.state), one.state
    assert isinstance(state, State)
    for region, style in itertools.product(one.regions, [(0.5, 0.25, 0.0)]):
        expected = KeptCondition(edits.set_style(state, region, style)).features
        assert torch.equal(kept.features_with(state, region, style), expected)


def test_the_networks_of_pix2pixhd_are_edited() -> None:
    torch.manual_seed(0)
    network = CoarseToFineGenerator(
        spec=spec(), width=4, downsamplings=2, blocks=1, style_channels=3, encoder_width=4, clusters=4
    ).eval()
    network.style_centres.copy_(painter().style_centres)
    network.style_counts.copy_(painter().style_counts)
    one = EditSession(network, street(), seed=4, style="drawn")
    first = one.render().photo
    assert torch.equal(first, network.sample(street(), 4))
    one.take_style(LEFT, torch.rand(1, 3, 48, 64), street(), RIGHT)
    one.move(RIGHT, 6, -20)
    regions = network.regions(one.layout)
    pairs = zip(regions.classes.tolist(), regions.objects.tolist(), strict=True)
    styles = torch.tensor([one.style_of(pair) for pair in pairs])
    second = one.render().photo
    assert torch.equal(second, network.sample_styles(one.layout, styles)) and not torch.equal(second, first)
    assert one.undo() and one.undo() and torch.equal(one.render().photo, first)
    assert one.gallery(LEFT).shape[0] == 4
