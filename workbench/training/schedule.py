"""What happens at which optimiser step: stages, trainable parameters, learning rate. Pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from workbench.contracts import MARKER_TASK, MARKERS, SEGMENTATION, Stage
from workbench.errors import ParameterError
from workbench.training.settings import TrainingSettings

POLY_POWER = 0.9
"""Exponent of nnU-Net's polynomial decay (Isensee et al., Nature Methods 2021)."""


@dataclass(frozen=True)
class StageSpan:
    """A stage and the optimiser steps [start, stop) it holds."""

    stage: Stage
    start: int
    stop: int


def stage_spans(stages: Sequence[Stage], steps: int) -> list[StageSpan]:
    """Lay a method's stages over the run; a stage too short for a single step is left out.

    Raises:
        ParameterError: no stages, a share that is not positive, or shares that do not add up to 1.
    """
    shares = [stage.share for stage in stages]
    if not shares or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        named = ", ".join(f"{stage.name} {stage.share:g}" for stage in stages) or "none"
        raise ParameterError(f"the shares of a method's stages must be positive and add up to 1; found: {named}")
    spans, start = [], 0
    for index, stage in enumerate(stages):
        stop = steps if index == len(stages) - 1 else round(steps * sum(shares[: index + 1]))
        if stop > start:
            spans.append(StageSpan(stage, start, stop))
        start = max(start, stop)
    return spans


def spans_of(stages: Sequence[Stage], settings: TrainingSettings) -> list[StageSpan]:
    """The stages of a training. What takes a finished one further stays in the last stage, over the steps that are added."""
    spans = stage_spans(stages, settings.steps)
    return [StageSpan(spans[-1].stage, settings.after, settings.steps)] if settings.after else spans


def span_at(spans: Sequence[StageSpan], step: int) -> StageSpan:
    """The span that holds optimiser step `step` (counted from 0)."""
    return next(span for span in spans if span.start <= step < span.stop)


def learning_rate(settings: TrainingSettings, span: StageSpan, step: int) -> float:
    """Learning rate of optimiser step `step`: linear warm-up, then cosine (adamw) or polynomial (sgd) decay, in each stage,
    whose factor scales the peak.

    Each stage warms up and decays on its own: a part of the network that a later stage sets free must not meet a learning
    rate that has already fallen to nothing.
    """
    length = span.stop - span.start
    warmup = round(settings.warmup_share * length)
    done, peak = step - span.start, settings.learning_rate * span.stage.learning_rate
    if done < warmup:
        return peak * (done + 1) / warmup
    left = 1 - (done - warmup) / (length - warmup)
    if settings.optimiser == "sgd":
        return peak * left**POLY_POWER
    return peak * 0.5 * (1 - math.cos(math.pi * left))


def counted_terms(terms: dict[str, Tensor], stage: Stage) -> dict[str, Tensor]:
    """The loss terms that count in a stage.

    A term's name starts with its task's or is a marker's, e.g. 'segmentation/dice_ce', 'markers/idh' or 'idh'; terms of a
    task that the stage does not list are left out. Terms of no task (say 'balance') always count.
    """
    silent = {SEGMENTATION} if SEGMENTATION not in stage.tasks else set()
    if MARKER_TASK not in stage.tasks:
        silent |= {MARKER_TASK, *MARKERS}
    return {name: value for name, value in terms.items() if name.split("/")[0] not in silent}


def set_trainable(model: nn.Module, stage: Stage, candidates: Iterable[str]) -> None:
    """Let gradients flow to the stage's `trainable` prefixes only (all of `candidates` where it names none).

    Raises:
        ParameterError: a prefix that no parameter has.
    """
    names = set(candidates)
    for prefix in stage.trainable:
        if not any(name.startswith(prefix) for name in names):
            raise ParameterError(f"stage '{stage.name}' trains '{prefix}', but no parameter's name starts like that")
    for name, parameter in model.named_parameters():
        chosen = name in names and (not stage.trainable or name.startswith(stage.trainable))
        parameter.requires_grad_(chosen)
        if not chosen:
            parameter.grad = None  # the optimiser skips parameters without a gradient, weight decay included


def build_optimiser(model: nn.Module, settings: TrainingSettings) -> Optimizer:
    """AdamW, or SGD with Nesterov momentum, over the parameters that want gradients."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimiser == "sgd":
        return SGD(parameters, settings.learning_rate, momentum=0.99, nesterov=True, weight_decay=settings.weight_decay)
    # biases and normalisation weights carry scale, not complexity: pulling them to zero only hurts
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], settings.learning_rate)
