from __future__ import annotations

import pytest
import torch

from recognition.loader import make_inference_loader
from recognition.preprocessing import Preprocessing, load_stored, to_canvas

from .conftest import draw, encode

PHOTOS = [encode(draw(50 + 5 * row, 60, seed=row)) for row in range(5)]


class ListReader:
    def read(self, row: int) -> bytes:
        return PHOTOS[row] if row < len(PHOTOS) else b"damaged"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_hold_the_rows_in_order_with_their_positions(
    num_workers: int, preprocessing: Preprocessing
) -> None:
    rows = [4, 0, 3]
    loader = make_inference_loader(
        ListReader(), rows, preprocessing=preprocessing, batch_size=2, num_workers=num_workers
    )
    batches = list(loader)
    assert [positions.tolist() for _, positions in batches] == [[0, 1], [2]]
    expected = [
        to_canvas(load_stored(PHOTOS[row], preprocessing=preprocessing), preprocessing=preprocessing)
        for row in rows
    ]
    canvases = torch.cat([batch for batch, _ in batches])
    assert canvases.dtype == torch.uint8
    assert torch.equal(canvases, torch.stack(expected)[:, None])


def test_photo_that_does_not_decode_is_named_by_its_row(preprocessing: Preprocessing) -> None:
    loader = make_inference_loader(ListReader(), [0, 7], preprocessing=preprocessing, batch_size=2)
    with pytest.raises(ValueError, match="Row 7 of the photo store does not decode"):
        list(loader)
