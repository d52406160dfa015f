"""`aisle predict --split` on a small data set of the challenge's layout; experiments without evaluation."""

import csv
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from click.testing import CliRunner

import aisle
from aisle.composition import use
from aisle.score import predict_split, submission_ids
from catalog.content import CONTENT
from catalog.splits import load_splits
from contracts.photos import REJECTED
from pipelines import duplicates, embed, ensemble, evaluate, ingest, split
from pipelines.params import Params, ParamsError, load_params
from recognition.bundle import load_member, save_member
from recognition.recognizer import Recognizer
from tests.tracking.tiny_bundle import draw_photo, make_bundle

ROOT = Path(__file__).parents[2]
CLASSES = ("00000", "00001", "00002", "00003")
MEMBERS = ("pnasnet", "senet154")
CHOICES = [
    "recipe=bsce",
    "data=aliproducts",
    "size=tiny",
    "recipe.phases.*.input_size=32",
    "recipe.phases.*.resize=36",
    "recipe.members=[pnasnet,senet154]",
    "recipe.ensemble.merge=probabilities",
    "recipe.ensemble.views=[center,flip]",
    "data.split.holdout_share=0",
    "data.validation_split=train",
    "data.storage.max_side=96",
]


def write_source(folder: Path) -> None:
    """Three photos a class for train, two for val, five without a label for test."""
    for name, count in (("train", 3), ("val", 2)):
        images = []
        for index, class_id in enumerate(CLASSES):
            (folder / name / class_id).mkdir(parents=True)
            for number in range(count):
                image = f"{index}{number}.jpg"
                photo = draw_photo(100 * count + 10 * index + number, size=(80, 60))
                (folder / name / class_id / image).write_bytes(photo)
                images.append({"class_id": class_id, "image_id": image})
        (folder / f"{name}.json").write_text(json.dumps({"images": images}))
    (folder / "test").mkdir()
    ids = [f"{number}.jpg" for number in (7, 3, 11, 5, 2)]
    for image in ids:
        (folder / "test" / image).write_bytes(draw_photo(int(image[:-4]), size=(150, 90)))
    (folder / "test.json").write_text(json.dumps({"images": [{"image_id": image} for image in ids]}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose ensemble is evaluated on val; its phases' bundles have random weights."""
    folder = tmp_path_factory.mktemp("challenge")
    for name in ("conf", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    write_source(folder / "source")
    use(folder, overrides=[*CHOICES, f"data.root={folder / 'source'}"])
    bundle = make_bundle(folder / "made", class_names=CLASSES)
    for phase, member in zip(MEMBERS, ("member_1", "member_2"), strict=True):
        shutil.copytree(bundle / "members" / member, folder / "runs" / phase / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (ingest, duplicates, split):
            stage.main()
        for member in MEMBERS:
            embed.main(member)
        ensemble.main()
    return folder


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def predict(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(aisle.main, ["predict", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_an_unlabelled_split_gets_the_answers_that_serving_gives(project: Path, tmp_path: Path) -> None:
    said = predict("--split", "test", "--out", f"{tmp_path / 'test.parquet'}")
    assert "5 photos, 0 of them labelled" in said
    scored = pl.read_parquet(tmp_path / "test.parquet")
    assert scored.columns == ["photo_id", "label", "classes", "probabilities", *CONTENT, "label_name"]
    assert scored["photo_id"].to_list() == [f"test/{n}.jpg" for n in (7, 3, 11, 5, 2)]
    assert scored["label"].null_count() == scored["label_name"].null_count() == 5
    recognizer = Recognizer(project / "data/ensembles/bsce", precision="float32")
    for photo_id, classes, probabilities in scored.select("photo_id", "classes", "probabilities").iter_rows():
        answer = recognizer.predict([(project / "source" / photo_id).read_bytes()])[0].predictions
        assert classes == [prediction.class_index for prediction in answer]
        assert probabilities == pytest.approx([prediction.probability for prediction in answer], abs=1e-6)


def test_the_evaluation_split_gets_the_predictions_that_evaluation_stored(
    project: Path, tmp_path: Path
) -> None:
    params = load_params()
    banks = {name: evaluate.load_feature_bank(Path(f"data/features/bsce/{name}")) for name in MEMBERS}
    classes, probabilities = evaluate.predict_all(params, banks)["ensemble"]
    bank = banks["pnasnet"]
    evaluate.save_predictions(
        tmp_path / "stored.parquet",
        bank,
        splits=load_splits(Path("data/splits/aliproducts")),
        classes=classes,
        probabilities=probabilities,
    )
    said = predict("--split", "val", "--out", f"{tmp_path / 'val.parquet'}")
    scored = pl.read_parquet(tmp_path / "val.parquet")
    assert scored.drop("label_name").equals(pl.read_parquet(tmp_path / "stored.parquet"))
    assert scored["label_name"].to_list() == [name for name in CLASSES for _ in range(2)]
    assert "8 photos, 8 of them labelled, mean top-1 error 0." in said


def test_chunks_change_no_answer(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("whole", 4096), ("parts", 3)):
        monkeypatch.setattr("recognition.scoring.PHOTOS_AT_A_TIME", size)
        predict("--split", "train", "--out", f"{tmp_path / name}")
    assert pl.read_parquet(tmp_path / "whole")["classes"].equals(
        pl.read_parquet(tmp_path / "parts")["classes"]
    )


def test_a_submission_has_the_challenges_header_and_the_class_ids_of_the_data(
    project: Path, tmp_path: Path
) -> None:
    """A head without weights answers by its bias: class 2 for every photo."""
    model, config = load_member(project / "runs/pnasnet/bundle")
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([0.0, 1.0, 3.0, 2.0])
    save_member(tmp_path / "bundle", model=model, config=config)
    out, submission = tmp_path / "o.parquet", tmp_path / "new" / "s.csv"
    predict(
        "--split",
        "test",
        "--out",
        f"{out}",
        "--submission",
        f"{submission}",
        "--bundle",
        f"{tmp_path}/bundle",
    )
    expected = "id,predicted\n7.jpg,00002\n3.jpg,00002\n11.jpg,00002\n5.jpg,00002\n2.jpg,00002\n"
    assert submission.read_bytes().decode() == expected
    scored = pl.read_parquet(out)
    assert scored["classes"][0].to_list() == [2, 3, 1, 0]
    exact = torch.tensor([3.0, 2.0, 1.0, 0.0]).softmax(0).tolist()  # .6439, .2369, .0871, .0321
    assert scored["probabilities"][4].to_list() == pytest.approx(exact, abs=1e-6)


def test_a_submissions_rows_are_the_best_classes_in_the_splits_order(project: Path, tmp_path: Path) -> None:
    out, submission = tmp_path / "o.parquet", tmp_path / "s.csv"
    predict("--split", "test", "--out", f"{out}", "--submission", f"{submission}")
    best = [CLASSES[classes[0]] for classes in pl.read_parquet(out)["classes"]]
    assert read_csv(submission)[1:] == [
        [f"{n}.jpg", name] for n, name in zip((7, 3, 11, 5, 2), best, strict=True)
    ]
    assert len(set(best)) > 1


def test_two_photos_of_one_file_name_are_no_submission() -> None:
    assert submission_ids(["test/1.jpg", "test/2.jpg"]) == ["1.jpg", "2.jpg"]
    with pytest.raises(ValueError, match=r"1 names more than once, first '1\.jpg'"):
        submission_ids(["train/a/1.jpg", "train/b/1.jpg", "train/b/2.jpg"])


def test_photos_that_ingest_rejected_are_named(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, symlinks=True)
    table = copy / "data/photos/aliproducts/quarantine.parquet"
    rejected = {"photo_id": ["test/9.jpg", "train/1.jpg"], "reason": ["broken"] * 2, "message": [""] * 2}
    REJECTED.write(table, pl.DataFrame(rejected))
    predict_split(
        copy, load_params(), split="test", bundle=copy / "data/ensembles/bsce", out=tmp_path / "o.parquet"
    )
    assert "2 photos of the source were rejected by ingest" in caplog.text
    assert "1 of them in test/, first 'test/9.jpg'" in caplog.text


def test_a_bundle_of_fewer_classes_keeps_the_names_of_the_others(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = make_bundle(tmp_path / "small", seeds=[3], class_names=("00001", "00003"))
    predict_split(Path(), load_params(), split="val", bundle=bundle, out=tmp_path / "o.parquet")
    scored = pl.read_parquet(tmp_path / "o.parquet")
    assert scored["label"].to_list() == [None, None, 0, 0, None, None, 1, 1]
    assert scored["label_name"].to_list() == [name for name in CLASSES for _ in range(2)]
    assert "4 photos are of 2 classes" in caplog.text
    assert "'00000', '00002'" in caplog.text


def test_a_bundle_of_another_storage_policy_sees_photos_as_it_stores_them(
    project: Path, tmp_path: Path
) -> None:
    """The store keeps sides of 96 pixels, this bundle of 40."""
    model, config = load_member(project / "runs/pnasnet/bundle")
    values = json.loads((project / "runs/pnasnet/bundle/config.json").read_text())
    save_member(tmp_path / "bundle", model=model, config=config)
    values["preprocessing"]["storage"]["max_side"] = 40
    (tmp_path / "bundle/config.json").write_text(json.dumps(values))
    predict_split(Path(), load_params(), split="test", bundle=tmp_path / "bundle", out=tmp_path / "o.parquet")
    recognizer = Recognizer(tmp_path / "bundle", precision="float32")
    photo = (project / "source/test/7.jpg").read_bytes()
    first = recognizer.predict([photo], top_k=1)[0].predictions[0].class_index
    assert pl.read_parquet(tmp_path / "o.parquet")["classes"][0][0] == first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "tset", "--out", "o"], r"received 'tset'. Splits: test (5), train (12), val (8)"),
        (["--split", "test"], "--split needs --out"),
        (["--split", "test", "--out", "o", "--data", "x"], "--data goes with PHOTOs"),
        (["--split", "test", "--out", "o", "--champion", "--bundle", "b"], "--champion or --bundle"),
        (["--split", "test", "--out", "o", "--bundle", "nowhere"], "nowhere"),
        (["params.yaml", "--split", "test", "--out", "o"], "either photos, or --split"),
        (["params.yaml", "--submission", "s"], "--submission goes with --split"),
        ([], "either photos, or --split"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(project: Path, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(aisle.main, ["predict", *arguments])
    assert done.exit_code in (1, 2)
    assert words in done.output
    assert not (project / "o").exists()


def test_without_an_ensemble_the_sentence_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("conf", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    use(tmp_path, overrides=["recipe=plain"])
    monkeypatch.chdir(tmp_path)
    assert "run `dvc repro ensemble`" in predict("--split", "test", "--out", "o", code=1)


def compose_without_evaluation(folder: Path, *more: str) -> None:
    use(folder, overrides=[*CHOICES, f"data.root={folder / 'source'}", "data.evaluation_split=null", *more])


def test_without_an_evaluation_split_the_ensemble_is_made_and_nothing_is_measured(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(made, folder, symlinks=True)
    shutil.rmtree(folder / "data/ensembles")
    compose_without_evaluation(folder, "data.validation_split=val")
    monkeypatch.chdir(folder)
    for member in MEMBERS:
        embed.main(member)
    ensemble.main()
    evaluate.main()
    assert "nothing is evaluated" in capsys.readouterr().out
    out = Path("data/evaluations/bsce")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == {"num_photos": 0, "ensemble": {}, "members": {"pnasnet": {}, "senet154": {}}}
    stored = pl.read_parquet(out / "predictions.parquet")
    assert dict(stored.schema) == {
        "photo_id": pl.String,
        "label": pl.Int32,
        "classes": pl.List(pl.Int32),
        "probabilities": pl.List(pl.Float32),
        **CONTENT,
    }
    assert (out / "errors.csv").read_text() == "class_frequency,top1_error\n"
    assert "5 photos" in predict("--split", "test", "--out", f"{tmp_path / 'o.parquet'}")


def test_val_may_be_watched_unless_errors_are_reported_on_it(tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    compose_without_evaluation(tmp_path, "data.validation_split=val")
    params = load_params(tmp_path)
    assert (params.evaluation.split, params.evaluation.validation_split) == (None, "val")
    with pytest.raises(ParamsError, match=r"another split than evaluation\.split"):
        compose_without_evaluation(tmp_path, "data.validation_split=val", "data.evaluation_split=val")


def test_what_goes_by_the_validation_error_is_refused_without_one(tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    with pytest.raises(ParamsError, match=r"phases\.pnasnet has keep_weights: best, schedule plateau, which"):
        compose_without_evaluation(tmp_path, "data.validation_split=null")
    both = ["recipe=plain", "data.evaluation_split=null", "data.validation_split=null"]
    assert Params.model_validate(use(tmp_path, overrides=both)).evaluation.validation_split is None
