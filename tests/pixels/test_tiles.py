"""Tiles and blocks of them: where their middles are."""

import pytest

from proc_decam_dagster.pixels.tiles import Tiles


@pytest.mark.parametrize("shape", [(60, 80), (256, 200), (600, 513), (4096, 2048), (4200, 4200)])
def test_a_block_is_the_tiles_of_two_rows_and_columns_that_are_there(shape):
    tiles = Tiles(shape, 10)
    blocks = {}
    for tile in tiles:
        blocks.setdefault(tiles.block(tile), []).append(tile)
    for (x, y), members in blocks.items():
        assert x == pytest.approx((min(t.x0 for t in members) + max(t.x1 for t in members) - 1) / 2)
        assert y == pytest.approx((min(t.y0 for t in members) + max(t.y1 for t in members) - 1) / 2)
        assert len(members) <= 4
    counts = [-(-n // tiles.step[k]) for k, n in enumerate(shape)]
    assert len(blocks) == -(-counts[0] // 2) * -(-counts[1] // 2)
