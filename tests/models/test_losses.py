"""Losses against formulas worked out by hand in NumPy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import FocalLoss
from torch import Tensor
from torch.nn import functional as F

from workbench.errors import ParameterError
from workbench.models.losses import (
    clamped_segmentation_loss,
    class_balance,
    class_groups,
    class_index,
    downsample_labels,
    log_prior,
    marker_loss,
    merge_logits,
    segmentation_loss,
)

SHAPE = (5, 6, 7)


def logits_and_labels(batch: int, classes: int, highest: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *SHAPE, generator=generator, dtype=torch.float64).float()
    return logits, torch.randint(0, highest + 1, (batch, *SHAPE), generator=generator)


def softmax(logits: Tensor) -> np.ndarray:
    values = np.exp(logits.double().numpy())
    return values / values.sum(1, keepdims=True)


def dice_ce(probabilities: np.ndarray, target: np.ndarray) -> float:
    """1 - mean over foreground classes of the batch's soft Dice, plus mean cross-entropy; (B, C, ...) and (B, ...)."""
    dice = []
    for label in range(1, probabilities.shape[1]):
        p, t = probabilities[:, label], target == label
        dice.append((2 * p[t].sum() + 1e-5) / (p.sum() + t.sum() + 1e-5))
    chosen = np.take_along_axis(probabilities, target[:, None], 1)
    return float(1 - np.mean(dice) - np.log(chosen).mean())


def test_full_supervision_is_dice_plus_cross_entropy() -> None:
    logits, labels = logits_and_labels(2, 4, 3)
    expected = dice_ce(softmax(logits), labels.numpy())
    assert float(segmentation_loss(logits, labels, ("glioma", "glioma"))) == pytest.approx(expected, rel=1e-5)


def test_dice_per_sample_is_the_mean_of_the_samples_by_themselves() -> None:
    """nnU-Net's 3d_fullres plans; one sample lacks a class, where the two kinds differ most."""
    logits, labels = logits_and_labels(2, 4, 3)
    labels[1] = labels[1].clamp(max=2)
    p, t = softmax(logits), labels.numpy()
    alone = float(np.mean([dice_ce(p[i : i + 1], t[i : i + 1]) for i in (0, 1)]))
    found = float(segmentation_loss(logits, labels, ("glioma", "glioma"), batch_dice=False))
    assert found == pytest.approx(alone, rel=1e-5)
    assert abs(found - float(segmentation_loss(logits, labels, ("glioma", "glioma")))) > 1e-3


@pytest.mark.parametrize("label_set", ["WT", "lesion"])
@pytest.mark.parametrize("classes", [2, 4, 5])
def test_coarse_masks_supervise_tumour_against_the_rest(label_set: str, classes: int) -> None:
    logits, labels = logits_and_labels(2, classes, 1)
    p = softmax(logits)
    tumour = p[:, 1:4].sum(1)
    if classes == 4:
        np.testing.assert_allclose(tumour, 1 - p[:, 0])
    expected = dice_ce(np.stack([1 - tumour, tumour], 1), labels.numpy())
    assert float(segmentation_loss(logits, labels, (label_set,) * 2)) == pytest.approx(expected, rel=1e-5)


def test_a_coarse_mask_does_not_care_which_tumour_class_it_is() -> None:
    logits, labels = logits_and_labels(1, 4, 1)
    swapped = logits[:, [0, 3, 1, 2]]
    a, b = (float(segmentation_loss(x, labels, ("WT",))) for x in (logits, swapped))
    assert a == pytest.approx(b, rel=1e-6)
    fine = [float(segmentation_loss(x, labels, ("glioma",))) for x in (logits, swapped)]
    assert fine[0] != pytest.approx(fine[1], rel=1e-3)


def test_cavity_nobody_could_draw_belongs_to_the_background() -> None:
    logits, labels = logits_and_labels(1, 5, 3)
    p = softmax(logits)
    merged = np.concatenate([p[:, :1] + p[:, 4:], p[:, 1:4]], 1)
    assert float(segmentation_loss(logits, labels, ("glioma",))) == pytest.approx(dice_ce(merged, labels.numpy()), rel=1e-5)


def test_cavity_the_model_does_not_know_is_background() -> None:
    logits, labels = logits_and_labels(1, 4, 4)
    expected = dice_ce(softmax(logits), np.where(labels.numpy() == 4, 0, labels.numpy()))
    assert float(segmentation_loss(logits, labels, ("glioma_post",))) == pytest.approx(expected, rel=1e-5)


def test_five_classes_are_told_apart_after_treatment() -> None:
    logits, labels = logits_and_labels(1, 5, 4)
    expected = dice_ce(softmax(logits), labels.numpy())
    assert float(segmentation_loss(logits, labels, ("glioma_post",))) == pytest.approx(expected, rel=1e-5)


def test_mixed_batch_is_the_mean_over_its_supervised_samples() -> None:
    logits, labels = logits_and_labels(4, 4, 3)
    labels[1] = (labels[1] > 0).long()
    logits.requires_grad_(True)
    loss = segmentation_loss(logits, labels, ("glioma", "WT", "", "glioma"))
    glioma = segmentation_loss(logits[[0, 3]], labels[[0, 3]], ("glioma", "glioma"))
    coarse = segmentation_loss(logits[1:2], labels[1:2], ("WT",))
    assert float(loss.detach()) == pytest.approx(float((2 * glioma + coarse).detach()) / 3, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert [bool((gradient[i] == 0).all()) for i in range(4)] == [False, False, True, False]


@pytest.mark.parametrize("labels", [None, torch.zeros(2, *SHAPE, dtype=torch.long)])
def test_nothing_to_learn_from_is_a_zero_with_a_graph(labels: Tensor | None) -> None:
    logits, _ = logits_and_labels(2, 4, 3)
    logits.requires_grad_(True)
    loss = segmentation_loss(logits, labels, ("", ""))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())


def test_class_weights_change_cross_entropy_alone() -> None:
    logits, labels = logits_and_labels(1, 4, 3)
    weights = [1.0, 2.0, 3.0, 4.0]
    p, t = softmax(logits), labels.numpy()
    dice = dice_ce(p, t) + np.log(np.take_along_axis(p, t[:, None], 1)).mean()
    w = np.asarray(weights)[t]
    weighted = -(w * np.log(np.take_along_axis(p, t[:, None], 1))[:, 0]).sum() / w.sum()
    assert float(segmentation_loss(logits, labels, ("glioma",), weights)) == pytest.approx(dice + weighted, rel=1e-5)


def test_loss_is_computed_in_float32() -> None:
    logits, labels = logits_and_labels(1, 4, 3)
    loss = segmentation_loss(logits.bfloat16(), labels, ("glioma",))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(segmentation_loss(logits, labels, ("glioma",))), rel=0.02)


@pytest.mark.parametrize(("label_set", "classes"), list(itertools.product(["glioma", "glioma_post", "WT", "lesion"], [2, 4, 5])))
def test_groups_partition_the_classes(label_set: str, classes: int) -> None:
    groups, lookup = class_groups(label_set, classes)
    assert sorted(c for group in groups for c in group) == list(range(classes))
    assert 0 in groups[0]
    assert lookup[0] == 0
    assert set(lookup) <= set(range(len(groups)))
    logits = torch.randn(1, classes, 3)
    merged = merge_logits(logits, groups).softmax(1)
    for index, group in enumerate(groups):
        torch.testing.assert_close(merged[:, index], logits.softmax(1)[:, list(group)].sum(1))


def test_unknown_label_sets_and_class_numbers_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"'brain'.*glioma"):
        class_groups("brain", 4)
    with pytest.raises(ParameterError, match="3 classes"):
        class_groups("glioma", 3)


def test_labels_shrink_without_new_values() -> None:
    labels = torch.tensor([0, 3]).repeat_interleave(4)[None, :, None, None].expand(1, 8, 4, 4)
    small = downsample_labels(labels, (4, 2, 2))
    assert small.shape == (1, 4, 2, 2)
    assert small[0, :, 0, 0].tolist() == [0, 0, 3, 3]


def test_binary_marker_loss_is_the_mean_over_known_cases() -> None:
    logits = torch.tensor([[2.0], [-1.0], [7.0]], requires_grad=True)
    loss = marker_loss(logits, torch.tensor([1.0, 1.0, float("nan")]), "idh")
    assert float(loss.detach()) == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2, rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2].item() == 0
    weighted = marker_loss(logits, torch.tensor([1.0, 0.0, float("nan")]), "idh", torch.tensor([0.5, 2.0]))
    assert float(weighted.detach()) == pytest.approx((2 * np.log1p(np.exp(-2)) + 0.5 * np.log1p(np.exp(-1))) / 2, rel=1e-6)


def test_marker_nobody_knows_is_a_zero_with_a_graph() -> None:
    logits = torch.randn(2, 1, requires_grad=True)
    loss = marker_loss(logits, torch.full((2,), float("nan")), "idh")
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())


def test_grade_is_four_against_the_rest_or_three_classes() -> None:
    values = torch.tensor([2.0, 3.0, 4.0])
    assert class_index(values, "grade", 1).tolist() == [0, 0, 1]
    assert class_index(values, "grade", 3).tolist() == [0, 1, 2]
    logits = torch.randn(3, 3)
    expected = -logits.log_softmax(1)[range(3), range(3)].mean()
    torch.testing.assert_close(marker_loss(logits, values, "grade"), expected)


@pytest.mark.parametrize("outputs", [1, 3])
def test_focal_loss_is_monais(outputs: int) -> None:
    logits = torch.randn(6, outputs, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([2.0, 3.0, 4.0, 4.0, 2.0, float("nan")])
    found = marker_loss(logits, values, "grade", focal_gamma=2.0)
    target = class_index(values[:5], "grade", outputs)
    oracle = FocalLoss(gamma=2.0, use_softmax=outputs > 1, to_onehot_y=outputs > 1)
    expected = oracle(logits[:5], target[:, None].float()) * outputs  # MONAI's mean is over the zeros of the other classes too
    torch.testing.assert_close(found, expected)
    assert float(found) < float(marker_loss(logits, values, "grade"))


def test_focal_loss_and_its_gradient_stay_finite_where_the_network_is_sure() -> None:
    logits = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    loss = marker_loss(logits, torch.tensor([1.0, 1.0]), "idh", focal_gamma=2.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == pytest.approx(100.0)  # the right one costs nothing, the wrong one its full 200
    assert bool(torch.isfinite(gradient).all())


def test_label_smoothing_moves_the_targets() -> None:
    logits, values = torch.tensor([[0.3], [-1.2]]), torch.tensor([1.0, 0.0])
    smoothed = values * 0.9 + 0.05
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], smoothed)
    torch.testing.assert_close(marker_loss(logits, values, "idh", label_smoothing=0.1), expected)


def test_class_balance_balances_the_classes() -> None:
    values = torch.tensor([1.0, 0, 0, 0, float("nan")])
    weights = class_balance(values, "idh")
    assert weights.tolist() == pytest.approx([4 / 6, 2.0])
    assert float(weights[[1, 0, 0, 0]].mean()) == pytest.approx(1)
    assert class_balance(torch.zeros(3), "idh").tolist() == pytest.approx([1.0, 1.0])
    assert len(class_balance(torch.tensor([2.0, 4.0]), "grade", 3)) == 3
    with pytest.raises(ParameterError, match="'sqrt' are unknown"):
        class_balance(values, "idh", rule="sqrt")


def test_effective_numbers_are_milder() -> None:
    """Cui et al.: E_n = (1 - b^n) / (1 - b); here 4 known cases, b = 3/4: E_1 = 1, E_3 = 1 + 3/4 + 9/16."""
    weights = class_balance(torch.tensor([1.0, 0, 0, 0]), "idh", rule="effective_number")
    assert float(weights[1] / weights[0]) == pytest.approx(1 + 3 / 4 + 9 / 16)
    assert float(weights[[1, 0, 0, 0]].mean()) == pytest.approx(1)


# -- mmFormer's loss ---------------------------------------------------------------------------------------------------


def test_clamped_loss_is_its_formula() -> None:
    probabilities = torch.tensor([[0.9, 0.001, 0.6, 0.2], [0.1, 0.999, 0.4, 0.8]]).view(1, 2, 4, 1, 1).double()
    labels = torch.tensor([0, 0, 0, 1]).view(1, 4, 1, 1)
    entropy = -(0.25 * (math.log(0.9) + math.log(0.005) + math.log(0.6)) + 0.75 * math.log(0.8)) / 4
    background = 2 * (0.9 + 0.001 + 0.6) / (0.9 + 0.001 + 0.6 + 0.2 + 3)
    lesion = 2 * 0.8 / (0.1 + 0.999 + 0.4 + 0.8 + 1)
    found = clamped_segmentation_loss(probabilities, labels, ("lesion",))
    assert float(found) == pytest.approx(entropy + 1 - (background + lesion) / 2, rel=1e-5)


def test_clamped_loss_weighs_classes_per_sample_and_dice_over_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(2, 2, 4, 4, 4, generator=generator).softmax(1)
    labels = (torch.rand(2, 4, 4, 4, generator=generator) > torch.tensor([0.2, 0.9])[:, None, None, None]).long()
    entropy = []
    for p, label in zip(probabilities, labels, strict=True):
        share = (label == 1).float().mean()
        weight = torch.where(label == 1, 1 - share, share)
        entropy.append(-(weight * p.gather(0, label[None])[0].log()).mean())
    dice = [
        2 * probabilities[:, c][labels == c].sum() / (probabilities[:, c].sum() + (labels == c).sum()) for c in (0, 1)
    ]  # fmt: skip
    expected = torch.stack(entropy).mean() + 1 - torch.stack(dice).mean()
    found = clamped_segmentation_loss(probabilities, labels, ("lesion", "lesion"))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_clamped_loss_knows_label_sets_and_who_has_no_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 4, 4, 4, 4, generator=generator).softmax(1)
    labels = torch.randint(0, 4, (3, 4, 4, 4), generator=generator)
    whole = torch.stack([probabilities[:, 0], probabilities[:, 1:].sum(1)], dim=1)
    coarse = clamped_segmentation_loss(probabilities, (labels > 0).long(), ("WT",) * 3)
    torch.testing.assert_close(coarse, clamped_segmentation_loss(whole, (labels > 0).long(), ("lesion",) * 3))
    mixed = clamped_segmentation_loss(probabilities, labels, ("glioma", "", "glioma"))
    torch.testing.assert_close(mixed, clamped_segmentation_loss(probabilities[[0, 2]], labels[[0, 2]], ("glioma",) * 2))
    probabilities.requires_grad_()
    none = clamped_segmentation_loss(probabilities, None, ("", "", ""))
    none.backward()
    assert float(none.detach()) == 0
    assert probabilities.grad is not None
    assert not bool(probabilities.grad.any())


def test_weights_of_dice_and_cross_entropy() -> None:
    logits = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (1, 4, 4, 4), generator=torch.Generator().manual_seed(1))

    def loss(dice: float, cross_entropy: float) -> float:
        return float(segmentation_loss(logits, labels, ("glioma",), dice=dice, cross_entropy=cross_entropy))

    assert loss(0, 1) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert loss(0.7, 0.4) == pytest.approx(0.7 * loss(1, 0) + 0.4 * loss(0, 1), rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_logit_adjustment_is_menons_and_with_tau_one_balanced_softmax(outputs: int) -> None:
    logits = torch.randn(6, outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    values = torch.tensor([2.0, 3.0, 4.0, 4.0, 2.0, float("nan")])
    training = torch.tensor([2.0] * 5 + [3.0] * 2 + [4.0] + [float("nan")])
    counts = torch.tensor([7.0, 1.0] if outputs == 1 else [5.0, 2.0, 1.0])
    prior = log_prior(training, "grade", outputs)
    torch.testing.assert_close(prior, (counts / 8).log())
    target = class_index(values[:5], "grade", outputs)
    scores = torch.cat([torch.zeros(5, 1), logits[:5]], 1) if outputs == 1 else logits[:5]
    # Ren et al., eq. 4: n_y exp(s_y) over the sum of n_c exp(s_c)
    balanced = -((counts * scores.exp())[range(5), target] / (counts * scores.exp()).sum(1)).log().mean()
    torch.testing.assert_close(marker_loss(logits, values, "grade", offsets=prior), balanced)
    # Menon et al., eq. 10: log(1 + sum over others of (pi_c / pi_y)^tau exp(s_c - s_y))
    ratio = (counts[None] / counts[target][:, None]) ** 1.5 * (scores - scores[range(5), target][:, None]).exp()
    torch.testing.assert_close(marker_loss(logits, values, "grade", offsets=1.5 * prior), ratio.sum(1).log().mean())
    assert torch.equal(
        marker_loss(logits, values, "grade", offsets=torch.zeros_like(prior)), marker_loss(logits, values, "grade")
    )


def test_a_class_that_never_comes_up_counts_as_one() -> None:
    assert log_prior(torch.tensor([0.0, 0.0, 0.0]), "idh").exp().tolist() == pytest.approx([0.75, 0.25])


def test_logit_adjustment_learns_the_odds_of_balanced_classes() -> None:
    """A constant logit on 1 positive of 10: cross-entropy ends at log(1/9), the adjusted loss at 0."""
    values = torch.tensor([1.0] + [0.0] * 9)
    found = {}
    for name, offsets in (("plain", None), ("adjusted", log_prior(values, "idh"))):
        logit = torch.zeros(1, 1, requires_grad=True)
        optimiser = torch.optim.LBFGS([logit], max_iter=50)

        def closure(logit: torch.Tensor = logit, optimiser: Any = optimiser, offsets: Any = offsets) -> torch.Tensor:
            optimiser.zero_grad()
            loss = marker_loss(logit.expand(10, 1), values, "idh", offsets=offsets)
            loss.backward()
            return loss

        optimiser.step(closure)
        found[name] = float(logit.detach())
    assert found == pytest.approx({"plain": -math.log(9), "adjusted": 0.0}, abs=1e-3)
