"""Pictures on a canvas: in the middle, moved, scrambled, with noise."""

from __future__ import annotations

import pytest
import torch

import backproof as bp
from backproof.data.canvas import canvas_for

PICTURES = torch.rand(7, 3, 3, generator=torch.Generator().manual_seed(0))


def drawn(variant: str, noise: float = 0.0, seed: int = 0, size: int = 9) -> torch.Tensor:
    canvas = canvas_for(PICTURES, size, variant, noise, 5)
    return canvas(PICTURES, torch.Generator().manual_seed(seed)) * canvas.deviation + canvas.mean


def test_centred_stands_in_the_middle() -> None:
    found = drawn("centred")
    assert found.shape == (7, 1, 9, 9)
    assert torch.allclose(found[:, 0, 3:6, 3:6], PICTURES, atol=1e-6) and abs(found.sum() - PICTURES.sum()) < 1e-3


def test_shifted_keeps_the_picture_whole_and_reaches_every_place() -> None:
    places = set()
    for seed in range(60):
        for picture, canvas in zip(PICTURES, drawn("shifted", seed=seed)[:, 0], strict=True):
            rows, columns = (canvas > 1e-5).nonzero(as_tuple=True)
            i, j = int(rows.min()), int(columns.min())
            assert torch.allclose(canvas[i : i + 3, j : j + 3], picture, atol=1e-6)
            places.add((i, j))
    assert places == {(i, j) for i in range(7) for j in range(7)}


def test_scrambled_is_one_fixed_permutation_of_centred() -> None:
    a, b, plain = drawn("scrambled"), drawn("scrambled", seed=3), drawn("centred")
    assert torch.equal(a, b) and not torch.equal(a, plain)
    assert torch.allclose(a.flatten(1).sort().values, plain.flatten(1).sort().values)


def test_noise_is_in_units_of_the_pictures_deviation() -> None:
    canvas = canvas_for(PICTURES, 100, "centred", 0.5, 0)
    noise = canvas(PICTURES, torch.Generator().manual_seed(0)) - canvas_for(PICTURES, 100, "centred", 0.0, 0)(
        PICTURES, torch.Generator()
    )
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(("size", "variant"), [(2, "centred"), (10**6, "shifted"), (9, "upside down")])
def test_what_cannot_be_is_refused(size: int, variant: str) -> None:
    with pytest.raises(bp.InputError):
        canvas_for(PICTURES, size, variant, 0.0, 0)
