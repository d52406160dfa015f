"""Which photos are learnt from and which only measured; labels become class indexes here.

The order of what happens, each with its reason: split (given or by chance), holdout, long tail, noise. The
holdout comes before what studies change, so that it has right labels and is the same photos for every
imbalance and share of noise; noise comes last, so that its share of train is exact.

The table never contains true labels: nothing that trains reads them. They are kept aside in truth.parquet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, model_validator

from catalog.chance import Hashes, draw, order_within, to_uniform
from catalog.content import CONTENT, require_content
from catalog.noise import NoiseConfig, inject_noise
from catalog.tail import TailConfig, cut_tail
from catalog.units import unit_keys
from contracts.splits import SPLITS, TRUTH
from contracts.values import GIVEN_SPLITS, SPLIT_NAMES, UNLABELLED
from imaging.atomic_write import write_text
from imaging.config import Config

METHODS = ("auto", "given", "stratified")
SPLITS_FILE = "splits.parquet"
TRUTH_FILE = "truth.parquet"
CLASSES_FILE = "classes.json"

_TRAIN, _VAL, _TEST, _HOLDOUT, _UNUSED = range(len(SPLIT_NAMES))

Codes = npt.NDArray[np.int64]


class SplitConfig(Config):
    """How photos are divided into train, val, test and holdout, and what studies do to train."""

    method: Literal["auto", "given", "stratified"] = "auto"
    """given: the source's own splits; stratified: by chance in every class, groups as a whole. Shares are met
    on average: where a few large groups hold most photos, look at the counts; another seed draws others.
    auto: given where the source has splits, with val_share of train as val where it has train and test alone;
    else stratified."""
    ignore_given: bool = False
    """Deal photos by chance although the source gives splits: stratified stops otherwise."""
    unassigned: Literal["stop", "train", "unused"] = "stop"
    """Where labelled photos without a split go, if the source gives splits to others."""
    val_share: float = Field(default=0.1, ge=0)
    """stratified: share of the labelled photos for validation."""
    test_share: float = Field(default=0.1, ge=0)
    """stratified: share of the labelled photos for the test."""
    min_train_per_class: int = Field(default=1, ge=1)
    """Photos that a class keeps in train before any goes elsewhere by chance."""
    holdout_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of train set aside for validation when evaluation itself happens on val."""
    keep_copies_together: bool = True
    """Chance never divides exact copies, like a group; it then depends on a photo's stored bytes, so another
    storage policy draws other splits. false: it depends on the photo id."""
    exact_across: Literal["error", "warn", "ignore"] = "error"
    """What an exact copy of a train photo in a split that measures is."""
    near_across: Literal["error", "warn", "ignore"] = "warn"
    """What a near copy of a train photo in a split that measures is."""
    tail: TailConfig = TailConfig()
    """For studies: a long tail cut into train."""
    noise: NoiseConfig = NoiseConfig()
    """For studies: wrong labels in train."""

    @model_validator(mode="after")
    def _shares_leave_a_train(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError(
                f"Expected val_share + test_share < 1, received {self.val_share} and {self.test_share}."
            )
        return self


def make_splits(
    photos: pl.DataFrame,
    *,
    class_names: Sequence[str],
    coarse_of: Mapping[str, str],
    config: SplitConfig,
    seed: int,
    confusion: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Assign every photo of a store (photos.parquet) to a split, in the store's order.

    Columns: photo_id, class (Int32 index into class_names, null where unlabelled), coarse, split and the
    content (`catalog.content`). Chance is
    drawn by unit (`catalog.units`): photos of one group or of the same bytes stay together, and new photos
    move no old one, unless a class would have too few in train or a new photo ties two units together.
    stratified puts unlabelled photos into test whatever their group: they are neither learnt nor measured.
    confusion: what `catalog.noise` needs for that kind. Raises ValueError for unknown labels, for `given`
    where the source has no splits, and for noise that cannot be.
    """
    require_content(photos, name="photos.parquet")
    classes = _class_index(photos["label"], class_names)
    codes = _given_splits(photos, config=config) if choose_method(photos, config=config) == "given" else None
    dealt = deals_validation(photos, config=config)
    if codes is None or config.holdout_share > 0 or dealt:
        keys = unit_keys(photos, copies_together=config.keep_copies_together)
        divided = _Divided(
            keys=keys, classes=classes.fill_null(UNLABELLED).to_numpy(), photo_ids=photos["photo_id"]
        )
        if codes is None:
            codes = _split_by_chance(divided, config=config, seed=seed)
        if dealt:
            codes = _set_aside(divided, codes, to=_VAL, share=config.val_share, config=config, seed=seed)
        codes = _set_aside(divided, codes, to=_HOLDOUT, share=config.holdout_share, config=config, seed=seed)
    split = pl.Series("split", SPLIT_NAMES).gather(codes)
    splits = photos.select("photo_id", classes, pl.col("coarse_label").alias("coarse"), split, *CONTENT)
    splits = cut_tail(splits, config=config.tail, min_per_class=config.min_train_per_class, seed=seed)
    return inject_noise(
        splits,
        config=config.noise,
        num_classes=len(class_names),
        coarse_of_class=[coarse_of.get(name) for name in class_names],
        confusion=confusion,
        seed=seed,
    )


def make_truth(photos: pl.DataFrame, *, class_names: Sequence[str], config: SplitConfig) -> pl.DataFrame:
    """The true classes that are known (photo_id, class Int32), in the store's order, only for scoring.

    The source's true label where it has one; else, where noise is injected, the label before.
    """
    known = photos["true_label"]
    if config.noise.kind != "none":
        known = known.to_frame().select(pl.coalesce("true_label", photos["label"]))["true_label"]
    return photos.select("photo_id", _class_index(known, class_names)).drop_nulls("class")


@dataclass(frozen=True, kw_only=True)
class _Divided:
    """What chance divides: photos in their units."""

    keys: Hashes
    """The unit of each photo, `[N]`."""
    classes: Codes
    """UNLABELLED where there is no label, `[N]`."""
    photo_ids: pl.Series

    def units_of_minimum(self, draws: Hashes, *, of: npt.NDArray[np.bool_], count: int) -> Hashes:
        """Units of the `count` photos with the largest draws of each class among `of`, equal draws by id.

        They stay in train as a whole: a class keeps its minimum, and one more photo displaces one at most.
        """
        labelled = np.flatnonzero(of & (self.classes >= 0))
        order = order_within(self.classes[labelled], ~draws[labelled], self.photo_ids.gather(labelled))
        return self.keys[labelled[order < count]]

    def is_of(self, units: Hashes) -> npt.NDArray[np.bool_]:
        """Whether each photo is of one of the units, `[N]`."""
        return pl.Series(self.keys).is_in(pl.Series(units, dtype=pl.UInt64).implode()).to_numpy()


def _split_by_chance(divided: _Divided, *, config: SplitConfig, seed: int) -> Codes:
    draws = draw(divided.keys, seed=seed, purpose="split")
    chance = to_uniform(draws)
    labelled = divided.classes >= 0
    codes = np.where(chance < config.test_share + config.val_share, _VAL, _TRAIN)
    codes[(chance < config.test_share) | ~labelled] = _TEST
    needed = divided.units_of_minimum(draws, of=labelled, count=config.min_train_per_class)
    codes[divided.is_of(needed) & labelled] = _TRAIN
    return codes


def _set_aside(
    divided: _Divided, codes: Codes, *, to: int, share: float, config: SplitConfig, seed: int
) -> Codes:
    """Move a share of train's units to val or holdout, leaving every class its minimum."""
    draws = draw(divided.keys, seed=seed, purpose="holdout" if to == _HOLDOUT else "split")
    train = codes == _TRAIN
    needed = divided.units_of_minimum(draws, of=train, count=config.min_train_per_class)
    moved = train & (to_uniform(draws) < share) & ~divided.is_of(needed)
    return np.where(moved, to, codes)


def _class_index(labels: pl.Series, class_names: Sequence[str]) -> pl.Series:
    index = {name: number for number, name in enumerate(class_names)}
    classes = labels.replace_strict(index, default=None, return_dtype=pl.Int32).alias("class")
    unknown = labels.filter(labels.is_not_null() & classes.is_null())
    if len(unknown):
        names = unknown.unique(maintain_order=True)
        raise ValueError(
            f"Expected labels of the store's {len(class_names)} classes, received {len(names)} others on "
            f"{len(unknown)} photos, first {', '.join(repr(name) for name in names[:5])}. Ingest the "
            "source again."
        )
    return classes


def choose_method(photos: pl.DataFrame, *, config: SplitConfig) -> Literal["given", "stratified"]:
    """What `auto` comes to for these photos (photos.parquet): given where a labelled photo has a split."""
    if config.method != "auto":
        return config.method
    has_given = photos.select(
        (pl.col("label").is_not_null() & pl.col("split").is_in(GIVEN_SPLITS)).any()
    ).item()
    return "given" if has_given and not config.ignore_given else "stratified"


def deals_validation(photos: pl.DataFrame, *, config: SplitConfig) -> bool:
    """Whether `auto` deals val out of train: the source has train and test alone, and there is no holdout."""
    if config.method != "auto" or choose_method(photos, config=config) == "stratified":
        return False
    given = set(photos.filter(pl.col("label").is_not_null())["split"].unique())
    return {"train", "test"} <= given and "val" not in given and config.holdout_share == 0 < config.val_share


def _given_splits(photos: pl.DataFrame, *, config: SplitConfig) -> Codes:
    known = photos["split"].is_in(GIVEN_SPLITS).fill_null(False)
    lost = photos["photo_id"].filter(~known & photos["label"].is_not_null())
    if len(lost) and config.unassigned == "stop":
        raise ValueError(
            f"The split method 'given' needs train, val or test on every photo; {len(lost)} of "
            f"{len(photos)} photos have none, first {lost[0]}. Methods: {', '.join(METHODS)}; use "
            "'stratified' for a source without splits."
        )
    codes = photos["split"].replace_strict(
        {name: code for code, name in enumerate(GIVEN_SPLITS)}, default=None, return_dtype=pl.Int64
    )
    # As by chance, photos without label and split are neither learnt from nor measured: test, whatever it is.
    elsewhere = _TRAIN if config.unassigned == "train" else _UNUSED
    filled = np.where(photos["label"].is_null().to_numpy(), _TEST, elsewhere)
    return np.where(known.to_numpy(), codes.fill_null(_TEST).to_numpy(), filled)


def save_splits(
    splits: pl.DataFrame,
    folder: Path,
    *,
    truth: pl.DataFrame,
    class_names: Sequence[str],
    coarse_of: Mapping[str, str],
) -> None:
    """Write splits.parquet, truth.parquet and classes.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    SPLITS.write(folder / SPLITS_FILE, splits)
    TRUTH.write(folder / TRUTH_FILE, truth)
    classes = {
        "class_names": list(class_names),
        "coarse_names": [coarse_of.get(name) for name in class_names],
    }
    text = json.dumps(classes, indent=1, ensure_ascii=False)
    write_text(folder / CLASSES_FILE, text + "\n")


def load_splits(folder: Path) -> pl.DataFrame:
    """Read the splits table of a folder: photo_id, class, coarse, split, source_sha256, perceptual_hash."""
    return pl.DataFrame(SPLITS.read(folder / SPLITS_FILE))


def load_truth(folder: Path) -> pl.DataFrame:
    """Read the true classes of a splits folder: photo_id, class; empty where no truth is known."""
    return pl.DataFrame(TRUTH.read(folder / TRUTH_FILE))


def load_class_names(folder: Path) -> tuple[list[str], list[str | None]]:
    """Read the class names of a splits folder, and the coarse name of each (None where there is none)."""
    classes = json.loads((folder / CLASSES_FILE).read_text(encoding="utf-8"))
    return classes["class_names"], classes["coarse_names"]
