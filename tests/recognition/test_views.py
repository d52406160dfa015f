from __future__ import annotations

import subprocess
import sys

import pytest

from recognition.views import Crop, View, check_views, distinct_crops, resolve_views

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


def resolve(*names: str, input_size: int = 224, resize: int = 256) -> tuple[View, ...]:
    return resolve_views(names, input_size=input_size, resize=resize)


def test_center_and_flip_share_one_crop() -> None:
    views = resolve("center", "flip")
    assert views == (View(Crop("center", 256), mirrored=False), View(Crop("center", 256), mirrored=True))
    assert distinct_crops(views) == (Crop("center", 256),)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top_left", View(Crop("top_left", 256), mirrored=False)),
        ("bottom_right_flip", View(Crop("bottom_right", 256), mirrored=True)),
        ("center_384", View(Crop("center", 384), mirrored=False)),
        ("top_right_288_flip", View(Crop("top_right", 288), mirrored=True)),
        ("center_rot90", View(Crop("center", 256), mirrored=False, turns=1)),
        ("center_288_rot270_flip", View(Crop("center", 288), mirrored=True, turns=3)),
    ],
)
def test_a_name_says_place_size_and_mirroring(name: str, expected: View) -> None:
    assert resolve(name) == (expected,)


def test_ten_crops_are_the_centre_and_the_corners_with_their_mirror_images() -> None:
    views = resolve("ten_crops")
    expected = {(position, mirrored) for position in ("center", *CORNERS) for mirrored in (False, True)}
    assert {(view.crop.position, view.mirrored) for view in views} == expected
    assert len(views) == 10
    assert {view.crop.resize for view in views} == {256}


def test_d4_is_every_flip_and_rotation_of_the_centre() -> None:
    views = resolve("d4")
    assert {(view.mirrored, view.turns) for view in views} == {
        (m, t) for m in (False, True) for t in range(4)
    }
    assert len(views) == 8
    assert distinct_crops(views) == (Crop("center", 256),)
    assert set(resolve("center", "flip")) < set(views)


def test_scales_are_report_a_s_at_its_input_and_in_proportion_at_others() -> None:
    sizes = [view.crop.resize for view in resolve("scales", input_size=331, resize=331)]
    assert sizes == [384, 412, 424, 436, 464]
    assert [view.crop.resize for view in resolve("scales", input_size=224)] == [260, 279, 287, 295, 314]
    assert {view.crop.position for view in resolve("scales")} == {"center"}


def test_a_view_that_two_names_mean_counts_once() -> None:
    assert resolve("center", "center_256", "flip", "center_flip") == resolve("center", "flip")
    assert len(resolve("flip", "ten_crops")) == 10


@pytest.mark.parametrize(
    "name",
    [
        "rotate",
        "",
        "center_",
        "center_0",
        "center_flip_384",
        "top",
        "centers",
        "center_1e3",
        "rot90",
        "center_rot45",
        "center_flip_rot90",
    ],
)
def test_unknown_view_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=rf"center, top_left.* d4, ten_crops and scales; received '{name}'"):
        check_views(("center", name))


def test_no_view_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected at least one view"):
        resolve()


def test_crop_larger_than_its_photo_is_refused() -> None:
    with pytest.raises(ValueError, match="224 pixels or more, received 200 in center, center_200"):
        resolve("center", "center_200")
    assert resolve("center_224")


def test_checking_names_needs_no_torch() -> None:
    """`aisle --help` and `aisle use` read params.yaml, and must not wait seconds for an import."""
    code = "import sys, recognition.views; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
