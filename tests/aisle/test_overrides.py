"""`aisle use` takes what a person types: any path as it is, and one sentence for what cannot be."""

from pathlib import Path

import pytest
import yaml

from aisle.composition import compose, hand_edits, use
from aisle.overrides import follow_renaming, parse
from pipelines.params import ParamsError, check_params, load_params
from pipelines.resolution import resolve_phases

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


GROUPS = ("data", "recipe", "size", "adjust", "experiment")
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
            "recipe=bsce", "~recipe.phases.senet154", "recipe.ensemble.views=[center_384]",
            "+data.options.num_skus=6", "++seed=3", "data.evaluation_split=${data.validation_split}",
        ],
    )  # fmt: skip
    assert "senet154" not in composed["recipe"]["phases"]
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
    with pytest.raises(ParamsError, match=r"optimizer.betas: no such key"):
        check_params(
            compose(ROOT, overrides=["recipe=plain", f"{optimizer}.name=sgd", chosen[1]]), where="params.yaml"
        )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("recipe.phases.*.epoch=3", "did you mean recipe.defaults.epochs"),
        ("recipe=loss_giuded", "did you mean 'loss_guided'"),
        ("experiment=bsce/table2_sc", "did you mean 'bsce/table2_sce'"),
        ("data=image-folder", "did you mean 'image_folder'"),
        ("recipe.phases.plian.epochs=3", "did you mean recipe.phases.plain.epochs"),
        ("recipe.phases.plain.epoch=3", "did you mean recipe.phases.plain.epochs"),
        ("sead=3", "did you mean seed"),
        ("data.options.num_sku=3", "did you mean data.options.num_skus"),
        ("data.options.path_column=a", "data.options has no key 'path_column'"),
        ("~recipe.phases.plan", "did you mean recipe.phases.plain"),
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
    assert sorted(edit.split(":")[0] for edit in hand_edits(checkout)) == ["data.name", "recipe.name"]


def test_every_file_of_conf_names_itself() -> None:
    said = {
        path.relative_to(ROOT / "conf").with_suffix("").as_posix(): yaml.safe_load(
            path.read_text(encoding="utf-8")
        )
        for path in ROOT.glob("conf/*/**/*.yaml")
    }
    files = {group: [file for file in said if file.startswith(f"{group}/")] for group in GROUPS}
    assert [said[file]["config"] for file in files["data"]] == [file[5:] for file in files["data"]]
    recipes = [said[file]["recipe"]["config"] for file in files["recipe"]]
    assert recipes == [file[7:] for file in files["recipe"]]
    sizes = [said[file]["size"]["name"] for file in files["size"]]
    assert sizes == [file[5:] for file in files["size"]]
    experiments = [said[file]["experiment"] for file in files["experiment"]]
    assert experiments == [file[11:] for file in files["experiment"]]
    assert {file[7:] for file in files["adjust"]} <= {
        f"{size}_{recipe}" for size in sizes for recipe in recipes
    }


def test_a_size_is_at_most_fifteen_lines_and_an_experiment_a_few() -> None:
    for group, most in (("size", 15), ("experiment", 20)):
        for path in ROOT.glob(f"conf/{group}/**/*.yaml"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= most, path


def test_params_are_at_most_150_lines_for_eleven_phases(checkout: Path) -> None:
    use(checkout, overrides=["recipe=loss_guided"])
    assert len((checkout / "params.yaml").read_text(encoding="utf-8").splitlines()) <= 150


def test_a_star_sets_a_value_of_every_phase_where_each_says_it() -> None:
    composed = compose(
        ROOT,
        overrides=[
            "recipe=winner", "size=paper", "recipe.phases.*.epochs=2", "recipe.phases.b3.epochs=4",
            "recipe.phases.*.optimizer.lr=0.3", "recipe.phases.*.schedule.final_lr_share=0.5",
            "recipe.phases.*.ema_decay=0.9", "recipe.phases.*.teacher=b4",
        ],
    )["recipe"]  # fmt: skip
    phases = resolve_phases(composed)
    assert {name: phase["epochs"] for name, phase in phases.items() if phase["epochs"] != 2} == {"b3": 4}
    assert {phase["optimizer"]["lr"] for phase in phases.values()} == {0.3}
    assert composed["phases"]["lio_resnet50"]["schedule"] == {"name": "cosine", "final_lr_share": 0.5}
    assert {phase["ema_decay"] for phase in phases.values()} == {0.9}
    assert {phase["teacher"] for phase in composed["phases"].values()} == {"b4"}


def test_an_experiment_implies_its_recipe_wins_over_a_size_and_is_composed_again(checkout: Path) -> None:
    params = use(checkout, overrides=["experiment=bsce/resnet152_ce", "size=study"])
    assert (params["recipe"]["name"], params["recipe"]["members"]) == ("bsce", ["pnasnet"])
    assert params["recipe"]["weights"]["pretrained_pnasnet"]["backbone"] == "resnet152"
    assert params["recipe"]["phases"]["pnasnet"]["input_size"] == 224
    (checkout / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert hand_edits(checkout) == []
    with pytest.raises(ValueError, match="expected recipe=bsce beside it, or none, received recipe=plain"):
        compose(ROOT, overrides=["experiment=bsce/resnet152_ce", "recipe=plain"])


@pytest.mark.parametrize(
    ("typed", "present"),
    [
        ("size.epochs=2", "recipe.defaults.epochs=2"),
        ("size.lr=0.1", "recipe.defaults.optimizer.lr=0.1"),
        ("+size.num_threads=1", "+recipe.defaults.num_threads=1"),
    ],
)
def test_a_key_of_the_last_release_is_followed_with_a_warning(
    typed: str, present: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert str(follow_renaming(parse(typed))) == present
    assert "this release still takes it" in caplog.text


@pytest.mark.parametrize("typed", ["size=tiny", "size.name=mine", "size.backbone=resnet18", "size.epoch=2"])
def test_other_keys_of_a_size_stay_as_they_are(typed: str, caplog: pytest.LogCaptureFixture) -> None:
    assert str(follow_renaming(parse(typed))) == typed
    assert not caplog.text
