"""Loss terms that know what each case's annotators could draw and which markers are known.

Every term is a mean over the samples that support it; where none does, it is a zero that keeps the graph, so that the
optimiser, DDP and the event log see the same terms at every step. Losses are computed in float32 whatever the precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from monai.losses import DiceCELoss
from torch import Tensor
from torch.nn import functional as F

from workbench.errors import ParameterError
from workbench.labels import LABEL_SET_CLASSES

SUPPORTED_CLASSES = (2, 4, 5)
"""Background and lesion; background, NCR, ED, ET; the same with RC."""

_TUMOUR = (1, 2, 3)


def class_groups(label_set: str, classes: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """Which classes of a `classes`-way model a case with this label set can tell apart.

    Returns the groups of model classes whose probabilities are summed before the loss, background's group first, and for
    each canonical label 0..4 the index of its group. What the annotators could not draw is part of what they left blank:

    - 'glioma' and a 5-class model: RC joins the background. 'glioma_post' and a 4-class model: RC voxels are background.
    - 'WT', and 'lesion' with a model of tumour classes (our choice): the sum of NCR, ED and ET, which is 1 - p(background)
      for a 4-class model, against the rest. RC stays outside, as in `labels.REGIONS`.
    - any label set and a 2-class model: NCR, ED and ET are the foreground.
    """
    if classes not in SUPPORTED_CLASSES:
        raise ParameterError(f"a model of {classes} classes has no canonical labels; choose one of {SUPPORTED_CLASSES}")
    if label_set not in LABEL_SET_CLASSES:
        raise ParameterError(f"label set '{label_set}' is unknown; there are: {', '.join(LABEL_SET_CLASSES)}")
    told_apart = min(classes, LABEL_SET_CLASSES[label_set])
    if told_apart == 2:
        foreground = tuple(c for c in _TUMOUR if c < classes)
        background = tuple(c for c in range(classes) if c not in foreground)
        return [background, foreground], [0, 1, 1, 1, 0]
    background = (0, *range(told_apart, classes))
    return [background, *((c,) for c in range(1, told_apart))], [c if c < told_apart else 0 for c in range(5)]


def merge_logits(logits: Tensor, groups: Sequence[tuple[int, ...]]) -> Tensor:
    """(B, C, ...) logits -> (B, groups, ...) logits whose softmax is the sum of probabilities within each group."""
    if all(len(group) == 1 for group in groups):
        return logits
    merged = [logits[:, list(group)].logsumexp(1) if len(group) > 1 else logits[:, group[0]] for group in groups]
    return torch.stack(merged, dim=1)


@dataclass(frozen=True)
class Supervised:
    """Samples of a batch that are supervised in the same way."""

    indices: list[int]
    """Their places in the batch."""
    groups: list[tuple[int, ...]]
    """Model classes that they cannot tell apart, background's group first."""
    target: Tensor
    """(b, X, Y, Z) long: the group of each voxel."""


def supervised(classes: int, labels: Tensor | None, label_set: Sequence[str]) -> Iterator[Supervised]:
    """The samples that have a mask, put together by what their annotators could draw; nothing where there is none.

    Args:
        classes: of the model.
        labels: (B, X, Y, Z) canonical labels, or None where no case has a mask.
        label_set: per sample a key of `labels.LABEL_SETS`; '' = no mask.
    """
    kinds: dict[tuple[tuple[tuple[int, ...], ...], tuple[int, ...]], list[int]] = {}
    for index, name in enumerate(label_set if labels is not None else ()):
        if name:
            groups, lookup = class_groups(name, classes)
            kinds.setdefault((tuple(groups), tuple(lookup)), []).append(index)
    for (kind, lookup_values), indices in kinds.items():
        assert labels is not None
        lookup_table = torch.tensor(lookup_values, device=labels.device)
        yield Supervised(indices, list(kind), lookup_table[labels[indices].long()])


def segmentation_loss(
    logits: Tensor,
    labels: Tensor | None,
    label_set: Sequence[str],
    class_weights: Sequence[float] | None = None,
    *,
    dice: float = 1.0,
    cross_entropy: float = 1.0,
    batch_dice: bool = True,
    background: bool = False,
    squared: bool = False,
) -> Tensor:
    """Dice plus cross-entropy, by label set; a scalar.

    Args:
        logits: (B, C, X, Y, Z).
        labels: (B, X, Y, Z) canonical labels, or None where no case has a mask.
        label_set: per sample a key of `labels.LABEL_SETS`; '' = no mask, the sample contributes nothing.
        class_weights: of cross-entropy, one per class; a merged group takes the mean of its classes.
        dice: weight of Dice.
        cross_entropy: weight of cross-entropy.
        batch_dice: sums of Dice over the voxels of all samples; else per sample, then the mean over samples and classes, as
            nnU-Net's 3d_fullres plans have it (`batch_dice` false).
        background: whether Dice has a term of the background.
        squared: whether the probabilities in the denominator of Dice are squared (Milletari et al., 2016, arXiv 1606.04797).

    Over the batch unless asked otherwise: patches without one of the classes are common, and per sample the Dice of an absent
    class is all or nothing. Samples are grouped by how they are supervised and groups weigh by their size.
    """
    logits = logits.float()
    total, count = logits.new_zeros(()), 0
    for kind in supervised(logits.shape[1], labels, label_set):
        samples = logits[kind.indices] if len(kind.indices) < len(logits) else logits
        weight = None
        if class_weights is not None:
            weight = logits.new_tensor([sum(class_weights[c] for c in group) / len(group) for group in kind.groups])
        loss = DiceCELoss(
            include_background=background, to_onehot_y=True, softmax=True, batch=batch_dice, squared_pred=squared, weight=weight,
            lambda_dice=dice, lambda_ce=cross_entropy,
        )  # fmt: skip
        if weight is not None:
            # MONAI weighs Dice with the same weights; here they are cross-entropy's alone
            loss.dice.class_weight = None
        total = total + len(kind.indices) * loss(merge_logits(samples, kind.groups), kind.target[:, None])
        count += len(kind.indices)
    return total / count if count else zero_loss(logits)


def clamped_segmentation_loss(
    probabilities: Tensor, labels: Tensor | None, label_set: Sequence[str], smallest: float = 0.005
) -> Tensor:
    """Cross-entropy weighted by each sample's classes plus soft Dice with background, by label set: mmFormer's loss; a scalar.

        CE   = mean over voxels of -w_g log max(p_g, smallest),  g the voxel's class, w_g = 1 - its share of the sample's voxels
        Dice = 1 - mean over classes of 2 sum p_g t_g / (sum p_g + sum t_g), sums over the voxels of all samples

    Zhang et al., MICCAI 2022, arXiv 2206.02425, by its code. A class that occurs nowhere and is predicted nowhere has Dice 0.

    Args:
        probabilities: (B, C, X, Y, Z), adding up to 1 over C.
        labels: (B, X, Y, Z) canonical labels, or None where no case has a mask.
        label_set: per sample a key of `labels.LABEL_SETS`; '' = no mask, the sample contributes nothing.
        smallest: lower bound of a probability inside the logarithm: below it there is no gradient from cross-entropy.
    """
    probabilities = probabilities.float()
    total, count = probabilities.new_zeros(()), 0
    for kind in supervised(probabilities.shape[1], labels, label_set):
        given = torch.stack([probabilities[kind.indices][:, list(group)].sum(1) for group in kind.groups], dim=1)
        truth = F.one_hot(kind.target, len(kind.groups)).movedim(-1, 1).to(given.dtype)
        weight = 1 - truth.mean((2, 3, 4), keepdim=True)
        entropy = -(weight * truth * given.clamp_min(smallest).log()).sum(1).mean()
        overlap = 2 * (given * truth).sum((0, 2, 3, 4)) / (given.sum((0, 2, 3, 4)) + truth.sum((0, 2, 3, 4)) + 1e-7)
        total = total + len(kind.indices) * (entropy + 1 - overlap.mean())
        count += len(kind.indices)
    return total / count if count else zero_loss(probabilities)


def downsample_labels(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, X, Y, Z) labels on a coarser grid by nearest neighbour, for deep supervision."""
    if tuple(labels.shape[1:]) == tuple(shape):
        return labels
    return F.interpolate(labels[:, None].float(), size=tuple(shape), mode="nearest-exact")[:, 0].long()


def marker_loss(
    logits: Tensor,
    values: Tensor,
    marker: str,
    weights: Tensor | None = None,
    *,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
    offsets: Tensor | None = None,
) -> Tensor:
    """Cross-entropy or focal loss of one marker over the samples in which it is known; a scalar.

    Args:
        logits: (B, 1) for a binary marker and for grade 4 against the rest, (B, 3) for grades 2, 3, 4.
        values: (B,) 0/1, or 2/3/4 for grade; NaN = unknown.
        marker: its name.
        weights: one per class, from `class_balance`. The mean is over samples, not over weights: with two samples a batch, a
            weighted mean would undo the weighting.
        focal_gamma: each sample weighs (1 - p)^gamma, p the probability given to its class (Lin et al., arXiv 1708.02002);
            0 = cross-entropy. Easy cases count less, which shifts the probabilities towards 1/2: calibrate them afterwards.
        label_smoothing: share of a label that is spread evenly over all classes (Szegedy et al., arXiv 1512.00567).
        offsets: one per class, added to its logit here and nowhere else: tau times `log_prior` is logit adjustment (Menon et al.,
            arXiv 2007.07314), with tau 1 balanced softmax (Ren et al., arXiv 2007.10740). What the network itself says is then of
            classes as if they were equally common.
    """
    logits = logits.float()
    known = torch.isfinite(values)
    if not bool(known.any()):
        return zero_loss(logits)
    logits, target = logits[known], class_index(values[known], marker, logits.shape[1])
    if logits.shape[1] == 1:  # the same loss as with two outputs, of which the first is always zero
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    if offsets is not None:
        logits = logits + offsets.to(logits)
    losses = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    if focal_gamma > 0:
        others = logits.scatter(1, target[:, None], float("-inf")).logsumexp(1)  # log of 1 - p, up to the same constant
        losses = losses * torch.exp(focal_gamma * (others - logits.logsumexp(1)))
    if weights is not None:
        losses = losses * weights.to(losses)[target]
    return losses.mean()


def log_prior(values: Tensor, marker: str, outputs: int = 1) -> Tensor:
    """(classes,) log of the share of each class among known values (n,), NaN = unknown: what logit adjustment adds in training.

    A class without any case counts as one: it would be minus infinity, and nothing would be learnt of its logit.
    """
    known = class_index(values[torch.isfinite(values)], marker, outputs)
    counts = torch.bincount(known, minlength=max(2, outputs)).clamp(min=1).double()
    return (counts / counts.sum()).log().float()


def class_index(values: Tensor, marker: str, outputs: int) -> Tensor:
    """Known marker values (n,) -> class indices (n,) long for a head with this many outputs."""
    if marker != "grade":
        return (values > 0.5).long()
    return (values > 3.5).long() if outputs == 1 else (values.round() - 2).long().clamp(0, outputs - 1)


def class_balance(values: Tensor, marker: str, outputs: int = 1, rule: str = "inverse_frequency") -> Tensor:
    """One weight per class, so that rare classes are not drowned by common ones; from training cases only.

    Args:
        values: (n,) the marker in the training cases; NaN = unknown.
        marker: its name.
        outputs: logits of its head.
        rule: 'inverse_frequency': n / (classes x n_class), with which all classes weigh the same in all. 'effective_number':
            proportional to (1 - b) / (1 - b^n_class) with b = 1 - 1/n (Cui et al., arXiv 1901.05555), which is milder.

    Returns:
        (classes,) weights whose mean over the known cases is 1. A class without any case gets weight 1: it never occurs in
        training, so its weight is never used.
    """
    classes = max(2, outputs)
    counts = torch.bincount(class_index(values[torch.isfinite(values)], marker, outputs), minlength=classes).double()
    total = counts.sum()
    if rule == "effective_number":
        b = 1 - 1 / total.clamp(min=2)
        weights = (1 - b) / (1 - b ** counts.clamp(min=1))
    elif rule == "inverse_frequency":
        weights = 1 / counts.clamp(min=1)
    else:
        raise ParameterError(f"class weights '{rule}' are unknown; there are inverse_frequency and effective_number")
    weights = weights * total / (weights * counts).sum().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(counts > 0, weights, torch.ones_like(weights)).float()


def zero_loss(tensor: Tensor) -> Tensor:
    """Zero with `tensor`'s graph: every parameter behind it gets a gradient of exactly zero."""
    return (tensor.float() * 0.0).sum()
