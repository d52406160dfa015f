"""Keep the photos whose label several models confirm: one model's mistake is rarely another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from catalog.content import refuse_other_content
from catalog.refinement.evidence import Refinement, require_classes
from catalog.refinement.threshold import list_kept


class Agreement(Refinement):
    """The photos whose label enough members predict; evidence is a folder of out-of-fold predictions."""

    rule: Literal["agreement"] = "agreement"
    """Members agree with the label."""
    members: tuple[str, ...]
    """Names of the out-of-fold predictions in the folder."""
    min_members: int | None = None
    """How many must predict the label; null: all of them. One that did not see the photo does not."""
    min_per_class: int = Field(default=1, ge=0)
    """No class falls below this, or below what it has: the photos with the most probable labels stay."""

    @model_validator(mode="after")
    def _enough_members(self) -> Self:
        require_members(self.members)
        if self.min_members is not None and not 1 <= self.min_members <= len(self.members):
            raise ValueError(
                f"Expected min_members in 1..{len(self.members)} or null, received {self.min_members}."
            )
        return self


def require_members(members: tuple[str, ...]) -> None:
    """Raise ValueError for no members or one that is named twice."""
    if not members or len(set(members)) < len(members):
        raise ValueError(f"Expected members, each once, received {list(members)}.")


def predicted_class() -> pl.Expr:
    """The most probable class of a row of evidence, the label where it is as probable; null if never seen."""
    return (
        pl.when(pl.col("mean_label_probability") >= pl.col("mean_other_probability"))
        .then("class")
        .otherwise("other_class")
    )


def keep_agreed(
    base: pl.DataFrame, *, out_of_fold: Mapping[str, pl.DataFrame], num_classes: int, config: Agreement
) -> pl.DataFrame:
    """The photos of a list whose label at least min_members predict, in its order.

    Raises ValueError for photos that no member's file has.
    """
    require_classes(base, num_classes=num_classes)
    num_rows, num_agreeing, p_label = (np.zeros(len(base)) for _ in range(3))
    for name, table in out_of_fold.items():
        asked = base.select("photo_id", "source_sha256", asked="class").join(
            table.with_columns(predicted=predicted_class()),
            on="photo_id",
            how="left",
            suffix="_predicted",
            maintain_order="left",
        )
        other = f"the out-of-fold predictions {name}"
        refuse_other_content(asked, suffix="_predicted", one=config.base, other=other)
        said = asked.select(
            has_row=pl.col("mean_other_probability").is_not_null(),
            agrees=(pl.col("predicted") == pl.col("asked")).fill_null(False),
            p=_probability_of_asked().fill_null(0.0),
        )
        num_rows += said["has_row"].to_numpy()
        num_agreeing += said["agrees"].to_numpy()
        p_label += said["p"].to_numpy()
    if not num_rows.all():
        first = base["photo_id"].filter(pl.Series(num_rows == 0))
        raise ValueError(
            f"Expected a prediction of every photo of the base list, received none for {len(first)} of "
            f"{len(base)}, first {first[0]!r}: predict this list with the members {list(config.members)}."
        )
    needed = len(config.members) if config.min_members is None else config.min_members
    return list_kept(
        base,
        passing=num_agreeing >= needed,
        scores=(-p_label).astype(np.float32),
        min_per_class=config.min_per_class,
        why=f"agreement: {{:.0f}} of {len(config.members)} members",
        numbers=[num_agreeing.astype(np.float32)],
    )


def _probability_of_asked() -> pl.Expr:
    """The probability of the asked class, as far as evidence knows it: as label or as largest other."""
    return (
        pl.when(pl.col("class") == pl.col("asked"))
        .then("mean_label_probability")
        .when(pl.col("other_class") == pl.col("asked"))
        .then("mean_other_probability")
    )
