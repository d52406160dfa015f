"""What the train stage leaves in the place of an earlier run's outs."""

from pathlib import Path

from pipelines.train import replace


def test_outs_of_an_earlier_run_are_replaced_and_never_nested(tmp_path: Path) -> None:
    made, out = tmp_path / "job" / "bundle", tmp_path / "runs" / "plain" / "bundle"
    for folder, text in ((out, "old"), (made, "new")):
        folder.mkdir(parents=True)
        (folder / "weights").write_text(text, encoding="utf-8")
    replace(out, made=made)
    assert (out / "weights").read_text(encoding="utf-8") == "new"
    assert [path.name for path in out.iterdir()] == ["weights"]


def test_a_file_is_put_into_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch", encoding="utf-8")
    replace(tmp_path / "runs" / "plain" / "history.csv", made=tmp_path / "history.csv")
    assert (tmp_path / "runs" / "plain" / "history.csv").read_text(encoding="utf-8") == "epoch"
