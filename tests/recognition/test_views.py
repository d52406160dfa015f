from __future__ import annotations

import pytest
import torch

from recognition.views import VIEWS, apply_view


def test_flip_mirrors_left_and_right_only() -> None:
    batch = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]])
    assert apply_view(batch, "flip").tolist() == [[[[3, 2, 1], [6, 5, 4]]]]
    assert torch.equal(apply_view(batch, "center"), batch)


def test_unknown_view_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="center, flip, received 'rotate'"):
        apply_view(torch.zeros(1, 3, 2, 2), "rotate")
    assert VIEWS == ("center", "flip")
