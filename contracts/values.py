"""Values that columns hold and several rooms compare with."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Split: TypeAlias = Literal["train", "val", "test", "holdout"]
AnySplit: TypeAlias = Literal[Split, "unused"]
"""unused: photos that are neither learnt from nor measured on."""
SPLIT_NAMES: tuple[str, ...] = get_args(AnySplit)
GIVEN_SPLITS = SPLIT_NAMES[:3]
"""Those that a source may give."""

Group: TypeAlias = Literal["head", "medium", "tail"]
"""A third of the classes by number of training photos: errors are reported for each."""
GROUPS: tuple[Group, ...] = get_args(Group)

UNLABELLED = -1
"""The class of a photo without a label where arrays cannot hold null; tables hold null."""
