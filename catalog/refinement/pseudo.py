"""Pseudo labels (report C tried them and left them out): photos without a label get the one the models give.

Only where the members agree and are sure: a wrong pseudo label is learnt like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from catalog.content import CONTENT, refuse_other_content
from catalog.reasons import describe
from catalog.refinement.agreement import require_members
from catalog.refinement.evidence import Refinement, require_classes
from catalog.refinement.ranking import rank_within
from contracts.lists import LIST


class Pseudo(Refinement):
    """The base list and the unlabelled photos that members are sure of; evidence is a folder of
    out-of-fold predictions."""

    rule: Literal["pseudo"] = "pseudo"
    """Adds photos; with base conf/nothing.yaml the list holds them alone."""
    members: tuple[str, ...]
    """Names of the out-of-fold predictions in the folder, all of the same unlabelled photos."""
    min_probability: float = Field(default=0.95, ge=0, lt=1)
    """The members' mean probability of the class must be higher; report C's."""
    per_class: int | None = Field(default=None, ge=1)
    """Photos added to a class at most, the most probable ones; null: all."""

    @model_validator(mode="after")
    def _enough_members(self) -> Self:
        require_members(self.members)
        return self


def add_pseudo_labels(
    base: pl.DataFrame | None, *, out_of_fold: Mapping[str, pl.DataFrame], num_classes: int, config: Pseudo
) -> pl.DataFrame:
    """The base list and after it the photos added, in the order of the first member's predictions.

    A photo that the base has keeps its label. Raises ValueError where no unlabelled photo was predicted.
    """
    answers = _answers(out_of_fold)
    if answers.is_empty():
        raise ValueError(
            "Expected out-of-fold predictions of unlabelled photos, received none that all of "
            f"{list(config.members)} have: predict a list made by the rule 'unlabelled' with each of them."
        )
    sure = answers.filter(pl.col("p") > config.min_probability)
    if base is not None:
        sure = sure.join(base.select("photo_id"), on="photo_id", how="anti", maintain_order="left")
    require_classes(sure, num_classes=num_classes)
    if config.per_class is not None:
        p = sure["p"].to_numpy()
        ranks = rank_within(sure["class"].to_numpy(), -p.astype(np.float32), sure["photo_id"])
        sure = sure.filter(pl.Series(ranks < config.per_class))
    template = f"pseudo: p {{:.4f}} > {config.min_probability:g}, {len(config.members)} members agree"
    why = describe(template.format, sure["p"].to_numpy(), decimals=4)
    added = sure.with_columns(why=why).select(LIST.names)
    return added if base is None else pl.concat([base, added])


def _answers(out_of_fold: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The unlabelled photos that all members give the same class: photo_id, class, p (mean), content.

    ValueError where members saw different photos under one name.
    """
    answers = [
        table.filter(pl.col("class").is_null(), pl.col("other_class").is_not_null()).select(
            "photo_id",
            pl.col("other_class").alias("class"),
            pl.col("mean_other_probability").alias("p"),
            *CONTENT,
        )
        for table in out_of_fold.values()
    ]

    def agree(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        both = left.join(right, on=["photo_id", "class"], maintain_order="left")
        refuse_other_content(
            both, suffix="_right", one="the out-of-fold predictions of one member", other="another's"
        )
        return both.select("photo_id", "class", pl.col("p") + pl.col("p_right"), *CONTENT)

    return reduce(agree, answers).with_columns(pl.col("p") / len(answers))
