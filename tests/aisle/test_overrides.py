"""`aisle use` takes what a person types: any path as it is, and one sentence for what cannot be."""

from pathlib import Path

import pytest
import yaml

from aisle.composition import compose, hand_edits, use
from pipelines.params import load_params

ROOT = Path(__file__).parents[2]
PATHS = [
    "/p/店铺 Zoë", "/p/new (1)/[a]{b}", "/p/a,b&c;d", "/p/day=1", "/p/Ann's \"best\"", "/p/#1!*?",
    "/p/a\\b\\",
    "/p/${x}", "/p/${oc.env:HOME}$", "/p/50%:x", " lead and trail ", "/p/new\nline\ttab", "/p/\u2028\x85\x7f",
    "/p/\U0001f34e", "1e5", "007", "true", "[x]", "~nobody_has_this_name/x", "-x", "@x", "+x", "'q'",
    "/p/a~b",
    "s3://shop/photos (1)/day=1", "nullx", "0o7", "2024-01-01", "a: b", "- a",
]  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    return tmp_path


KEYS = ("root", "options.index", "options.folder", "options.suffix", "options.label_column")


@pytest.mark.parametrize("first", range(0, len(PATHS), len(KEYS)))
def test_any_path_is_taken_as_it_is_typed(checkout: Path, first: int) -> None:
    typed = dict(zip(KEYS, PATHS[first : first + len(KEYS)], strict=False))
    use(checkout, overrides=["data=table", *(f"data.{key}={path}" for key, path in typed.items())])
    data = load_params(checkout).data
    known = {"root": data.root, **{f"options.{key}": value for key, value in data.options}}
    assert typed.items() <= known.items()
    assert data.watch == data.root
    assert hand_edits(checkout) == []


def test_the_home_folder_is_written_out_and_a_relative_path_is_of_the_folder_it_was_typed_in(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "sub").mkdir()
    monkeypatch.setenv("HOME", "/home/ann")
    roots = [
        use(checkout, overrides=["data=image_folder", f"data.root={path}"], cwd=checkout / "sub")["data"][
            "root"
        ]
        for path in ("~/photos", "photos", "../photos", "/photos")
    ]
    assert roots == ["/home/ann/photos", "sub/photos", "photos", "/photos"]
    composed = compose(checkout, overrides=["data.watch=conf/nothing.yaml"], cwd=checkout / "sub")
    assert composed["data"]["watch"] == "conf/nothing.yaml"


def test_texts_among_a_layouts_options_are_taken_as_they_are_and_others_keep_their_kind() -> None:
    options = compose(
        ROOT,
        overrides=[
            "data=table", "data.options.index=my (list),1.csv", "data.options.separator=\t",
            "data.options.folder=2024", "data.options.label_column=null",
            "data.options.drop_labels=[Not sure,Ann's]",
        ],
    )["data"]["options"]  # fmt: skip
    assert options["index"] == "my (list),1.csv"
    assert (options["separator"], options["folder"]) == ("\t", "2024")
    assert options["label_column"] is None
    assert options["drop_labels"] == ["Not sure", "Ann's"]


def test_hydras_own_forms_still_work() -> None:
    composed = compose(
        ROOT,
        overrides=[
            "recipe=bsce", "~recipe.members.senet154", "recipe.ensemble.views=[center_384]",
            "+data.options.num_skus=6", "++seed=3", "data.evaluation_split=${data.validation_split}",
        ],
    )  # fmt: skip
    assert "senet154" not in composed["recipe"]["members"]
    assert composed["recipe"]["ensemble"]["views"] == ["center_384"]
    assert composed["data"]["options"] == {"num_skus": 6}
    assert (composed["seed"], composed["evaluation"]["split"]) == (3, "val")


def test_a_key_that_conf_leaves_out_needs_no_plus() -> None:
    composed = compose(
        ROOT, overrides=["recipe=plain", "recipe.phases.plain.ema_decay=0.9", "data.split.tail.imbalance=5"]
    )
    assert composed["recipe"]["phases"]["plain"]["ema_decay"] == 0.9
    assert composed["data"]["split"]["tail"] == {"imbalance": 5}


def test_a_key_of_a_choice_that_is_made_beside_it_needs_no_plus() -> None:
    optimizer = "recipe.phases.plain.optimizer"
    chosen = [f"{optimizer}.name=adam", f"{optimizer}.betas=[0.9,0.95]"]
    made = compose(ROOT, overrides=["recipe=plain", *chosen])["recipe"]["phases"]["plain"]["optimizer"]
    assert (made["name"], made["betas"]) == ("adam", [0.9, 0.95])
    with pytest.raises(ValueError, match="optimizer has no key 'betas'"):
        compose(ROOT, overrides=["recipe=plain", f"{optimizer}.name=sgd", chosen[1]])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("recipe=loss_giuded", "did you mean 'loss_guided'"),
        ("data=image-folder", "did you mean 'image_folder'"),
        ("recipe.phases.plian.epochs=3", "did you mean recipe.phases.plain.epochs"),
        ("recipe.phases.plain.epoch=3", "did you mean recipe.phases.plain.epochs"),
        ("sead=3", "did you mean seed"),
        ("data.options.num_sku=3", "did you mean data.options.num_skus"),
        ("data.options.path_column=a", "data.options has no key 'path_column'"),
        ("~recipe.members.plan", "did you mean recipe.members.plain"),
        ("plain", "which has no ="),
        ("=3", "Expected a key"),
        ("se ed=3", "Expected a key"),
        ("seed=1,2", "expected one value"),
        ("data.root=", "received nothing"),
        ("data.root=/p/\udce9", "make a link"),
        ("recipe.ensemble.views=[center", "close its brackets"),
        ("recipe.phases.plain.epochs=${size.nothing}", "size.nothing"),
    ],
)
def test_what_cannot_be_composed_gets_one_short_sentence(typed: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        compose(ROOT, overrides=["recipe=plain", typed])
    assert said in str(error.value)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_two_data_sets_of_one_layout_live_side_by_side(checkout: Path) -> None:
    for name in ("shop_a", "shop_b"):
        use(checkout, overrides=["data=image_folder", f"data.name={name}", "data.root=/x", "seed=4"])
        assert load_params(checkout).data.name == name
        assert hand_edits(checkout) == []
    path = checkout / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed: 4", "seed: 5"), encoding="utf-8")
    assert hand_edits(checkout) == ["seed: conf/ says 4, params.yaml says 5"]


def test_what_dvc_composed_itself_is_composed_again_from_the_files_it_names(checkout: Path) -> None:
    composed = compose(
        checkout, overrides=["data=image_folder", "data.name=shop_a", "recipe=plain", "recipe.name=mine"]
    )
    (checkout / "params.yaml").write_text(yaml.safe_dump(composed), encoding="utf-8")
    assert sorted(edit.split(":")[0] for edit in hand_edits(checkout)) == [
        "data.name", "recipe.name", "recipe.phases.plain.list",
    ]  # fmt: skip


def test_every_file_of_conf_names_itself() -> None:
    for path in ROOT.glob("conf/*/*.yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8")).get("config") == path.stem, path
