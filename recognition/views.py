"""Views: the deterministic variants of a photo whose features are averaged at test time.

Report B found that the photo and its mirror image beat all eight flips and rotations.
"""

from __future__ import annotations

from torch import Tensor

VIEWS = ("center", "flip")


def apply_view(batch: Tensor, view: str) -> Tensor:
    """Return one view of a batch [B, 3, S, S]; ValueError for an unknown view."""
    if view == "center":
        return batch
    if view == "flip":
        return batch.flip(-1)
    raise ValueError(f"Expected a view of {', '.join(VIEWS)}, received {view!r}.")
