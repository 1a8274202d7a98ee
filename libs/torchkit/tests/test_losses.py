from __future__ import annotations

import pytest
import torch
from spinezoo_torchkit.losses import semantic_loss


def logits_of(labels: torch.Tensor, classes: int, strength: float) -> torch.Tensor:
    one_hot = torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2)
    return one_hot.float() * strength


def labels() -> torch.Tensor:
    found = torch.zeros(2, 16, 16, dtype=torch.long)
    found[0, 2:8, 2:8] = 1
    found[1, 9:12, 3:14] = 2
    return found


def dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The part of the loss that is no cross-entropy."""
    return float(semantic_loss(logits, labels) - semantic_loss(logits, labels, dice_weight=0.0))


def test_perfect_answer_costs_nothing() -> None:
    assert float(semantic_loss(logits_of(labels(), 4, 50.0), labels())) == pytest.approx(
        0, abs=1e-5
    )


def test_missed_structure_costs_more_than_a_shifted_one() -> None:
    shifted = torch.roll(labels(), 1, dims=2)
    missed = labels()
    missed[1] = 0
    costs = [dice_loss(logits_of(answer, 4, 50.0), labels()) for answer in (shifted, missed)]
    assert 0.0 < costs[0] < costs[1] < 1.0


def test_structure_that_no_film_shows_is_not_asked_for() -> None:
    # Classes 1 and 2 and the merged foreground are perfect; class 3 stands in no film.
    assert dice_loss(logits_of(labels(), 4, 50.0), labels()) == pytest.approx(0, abs=1e-5)


def test_empty_films_have_a_finite_loss_and_gradient() -> None:
    logits = torch.zeros(1, 4, 8, 8, requires_grad=True)
    loss = semantic_loss(logits, torch.zeros(1, 8, 8, dtype=torch.long))
    loss.backward()
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(logits.grad).all())


def test_class_weights_weigh() -> None:
    logits = torch.zeros(2, 4, 16, 16)
    logits[:, 0] = 2.0
    weights = torch.tensor([1.0, 1.0, 5.0, 1.0])
    plain = semantic_loss(logits, labels(), dice_weight=0.0)
    assert semantic_loss(logits, labels(), weights, dice_weight=0.0) > plain


def test_pixel_weights_weigh_and_even_ones_do_not() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 16, 16)
    weights = torch.tensor([1.0, 1.0, 5.0, 1.0])
    even = torch.full((2, 16, 16), 3.0)
    assert float(semantic_loss(logits, labels(), weights, pixel_weights=even)) == pytest.approx(
        float(semantic_loss(logits, labels(), weights)), rel=1e-5
    )
    # Wrong in one place: it costs more where that place weighs more.
    wrong = labels()
    wrong[0, 2:8, 5] = 0
    heavy = torch.ones(2, 16, 16)
    heavy[0, 2:8, 5] = 6.0
    logits = logits_of(wrong, 4, 4.0)
    plain = semantic_loss(logits, labels(), dice_weight=0.0)
    assert semantic_loss(logits, labels(), dice_weight=0.0, pixel_weights=heavy) > 3 * plain
