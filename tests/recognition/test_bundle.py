from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from recognition.backbones import make_model
from recognition.bundle import (
    bundle_kind,
    digest,
    find_member,
    load_ensemble_config,
    load_head,
    load_member,
    make_ensemble,
    save_member,
)
from recognition.preprocessing import Preprocessing

from .conftest import BACKBONE, CLASS_NAMES


def test_member_survives_its_bundle(make_member, preprocessing: Preprocessing) -> None:
    path = make_member("first", seed=1)
    model, config = load_member(path)
    expected = make_model(BACKBONE, num_classes=4, initial_weights="random", seed=1).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert (config.name, config.class_names, config.preprocessing) == ("first", CLASS_NAMES, preprocessing)
    assert (config.num_classes, config.num_features, config.fingerprint) == (4, 96, "fingerprint-first")


def test_bundle_is_json_and_safetensors_only(make_member) -> None:
    path = make_member("first")
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "weights.safetensors"]
    values = json.loads((path / "config.json").read_text())
    assert values["kind"] == "member"
    assert values["preprocessing"]["storage"]["max_side"] == 128


def test_equal_training_gives_equal_bytes_wherever_it_lies(make_member, tmp_path: Path) -> None:
    first = make_member("first", seed=1)
    model, config = load_member(first)
    save_member(tmp_path / "elsewhere", model=model, config=config)
    assert digest(tmp_path / "elsewhere") == digest(first)


def test_digest_changes_with_a_name_or_a_byte(tmp_path: Path) -> None:
    digests = set()
    for number, (name, content) in enumerate([("a", b"x"), ("a", b"y"), ("b", b"x")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(content)
        digests.add(digest(folder))
    assert len(digests) == 3
    assert {len(value) for value in digests} == {64}


def test_digest_of_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file"):
        digest(tmp_path)


def test_head_that_does_not_fit_the_config_is_not_saved(make_member, tmp_path: Path) -> None:
    _, config = load_member(make_member("first"))
    model = make_model(BACKBONE, num_classes=9, initial_weights="random")
    with pytest.raises(ValueError, match=r"\(96, 9, False\), its config says \(96, 4, False\)"):
        save_member(tmp_path / "wrong", model=model, config=config)


def test_head_that_normalises_although_the_config_does_not_say_so_is_not_saved(make_member, tmp_path) -> None:
    model, config = load_member(make_member("first"))
    model.normalize_features = True
    with pytest.raises(ValueError, match=r"\(96, 4, True\), its config says \(96, 4, False\)"):
        save_member(tmp_path / "wrong", model=model, config=config)


@pytest.mark.parametrize("head", [torch.nn.Identity(), torch.nn.Linear(96, 4, bias=False)])
def test_training_head_is_not_saved_as_it_is(make_member, tmp_path: Path, head) -> None:
    model, config = load_member(make_member("first"))
    model.head = head
    with pytest.raises(ValueError, match="Expected a linear head with a bias"):
        save_member(tmp_path / "wrong", model=model, config=config)


@pytest.mark.parametrize("normalize_features", [False, True])
def test_head_alone_answers_as_the_whole_member(make_member, normalize_features: bool) -> None:
    path = make_member("first", seed=1, normalize_features=normalize_features)
    model, config = load_member(path)
    features = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    assert (config.normalize_features, model.normalize_features) == (normalize_features, normalize_features)
    with torch.inference_mode():
        expected = model.logits(features)
    assert torch.equal(load_head(path)(features), expected)
    doubled = torch.equal(load_head(path)(2 * features), expected)
    assert doubled == normalize_features  # directions only, where features are brought to length 1


def test_bundle_without_a_head_is_refused(make_member) -> None:
    path = make_member("first")
    save_file({"backbone.weight": torch.zeros(1)}, path / "weights.safetensors")
    with pytest.raises(ValueError, match="Expected a head in the weights of bundle"):
        load_head(path)


def test_member_of_an_ensemble_is_found_by_its_name(make_member, tmp_path: Path) -> None:
    members = {"second": make_member("second", seed=2), "first": make_member("first", seed=1)}
    path = tmp_path / "ensemble"
    make_ensemble(path, members=members, recipe="plain", merge="logits", views=("center",))
    assert find_member(path, "first") == path / "members" / "first"
    for wrong in (None, "third", "../first"):
        with pytest.raises(ValueError, match=f"one of second, first; received .*{wrong or 'none'}"):
            find_member(path, wrong)


def test_only_member_needs_no_name(make_member, tmp_path: Path) -> None:
    first, path = make_member("first"), tmp_path / "ensemble"
    make_ensemble(path, members={"a": first}, recipe="plain", merge="logits", views=("center",))
    assert find_member(path, None) == find_member(path, "a") == path / "members" / "a"
    assert find_member(first, None) == find_member(first, "first") == first
    with pytest.raises(ValueError, match="one of first; received 'a'"):
        find_member(first, "a")


def test_views_that_do_not_fit_a_member_make_no_ensemble(make_member, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 pixels or more, received 31"):
        make_ensemble(
            tmp_path / "e",
            members={"a": make_member("a")},
            recipe="r",
            merge="logits",
            views=("center", "top_left_31"),
        )
    assert not (tmp_path / "e").exists()


def test_unknown_key_in_a_bundle_is_refused(make_member) -> None:
    path = make_member("first")
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**values, "surprise": 1}))
    with pytest.raises(ValueError, match="surprise"):
        load_member(path)


def test_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected a bundle with a config\.json"):
        load_member(tmp_path)


def test_truncated_weights_are_refused(make_member) -> None:
    path = make_member("first")
    weights = path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="do not fit its config"):
        load_member(path)


def test_ensemble_copies_its_members_in_the_order_given(make_member, tmp_path: Path) -> None:
    members = {"second": make_member("second", seed=2), "first": make_member("first", seed=1)}
    path = tmp_path / "ensemble"
    made = make_ensemble(path, members=members, recipe="plain", merge="logits", views=("center", "flip"))
    assert load_ensemble_config(path) == made
    assert (made.members, made.class_names) == (("second", "first"), CLASS_NAMES)
    assert bundle_kind(path) == "ensemble"
    assert digest(path / "members" / "first") == digest(members["first"])


def test_ensemble_made_again_forgets_members_it_no_longer_has(make_member, tmp_path: Path) -> None:
    first, second, path = make_member("first"), make_member("second"), tmp_path / "ensemble"
    both = {"first": first, "second": second}
    make_ensemble(path, members=both, recipe="plain", merge="logits", views=("center",))
    make_ensemble(path, members={"first": first}, recipe="plain", merge="logits", views=("center",))
    fresh = tmp_path / "fresh"
    make_ensemble(fresh, members={"first": first}, recipe="plain", merge="logits", views=("center",))
    assert digest(path) == digest(fresh)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("apple", "bread", "chess", "dates"), "class 2 is 'chess' instead of 'cheese'"),
        (("apple", "bread"), "2 classes instead of 4"),
    ],
)
def test_members_must_agree_on_class_names(make_member, tmp_path: Path, names, words: str) -> None:
    members = {"first": make_member("first"), "other": make_member("other", class_names=names)}
    with pytest.raises(ValueError, match=f"'other' differs from 'first': {words}"):
        make_ensemble(tmp_path / "e", members=members, recipe="r", merge="logits", views=("center",))
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("name", ["../escaped", "a/b", "", ".hidden"])
def test_member_name_that_is_no_plain_folder_name_is_refused(make_member, tmp_path: Path, name: str) -> None:
    members = {name: make_member("first")}
    with pytest.raises(ValueError, match="Expected a member name"):
        make_ensemble(tmp_path / "e", members=members, recipe="r", merge="logits", views=("center",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"merge": "median"}, "logits, probabilities, vote, received 'median'"),
        ({"views": ("center", "rotate")}, "center, top_left.* received 'rotate'"),
        ({"views": ()}, "at least one view"),
        ({"members": {}}, "at least one member"),
    ],
)
def test_ensemble_with_a_wrong_choice_is_refused(make_member, tmp_path: Path, change, words: str) -> None:
    choices = {"members": {"a": make_member("a")}, "merge": "logits", "views": ("center",), **change}
    with pytest.raises(ValueError, match=words):
        make_ensemble(tmp_path / "e", recipe="r", **choices)
