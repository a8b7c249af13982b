from __future__ import annotations

import math

import pytest
import torch
from toy_method import ToyMethod

from workbench.contracts import Stage
from workbench.errors import ParameterError
from workbench.training.schedule import (
    build_optimiser,
    counted_terms,
    learning_rate,
    set_trainable,
    span_at,
    stage_spans,
)
from workbench.training.settings import TrainingSettings


def test_spans_cover_the_run_without_gap() -> None:
    stages = [Stage("a", 1 / 3), Stage("b", 1 / 3), Stage("c", 1 / 3)]
    for steps in (2, 3, 10, 100, 101):
        spans = stage_spans(stages, steps)
        assert [span_at(spans, step).stage.name for step in range(steps)] == sorted(
            span_at(spans, step).stage.name for step in range(steps)
        )
        assert sum(span.stop - span.start for span in spans) == steps
        assert spans[-1].stage.name == "c"
    assert [(s.start, s.stop) for s in stage_spans([Stage("a", 0.7), Stage("b", 0.3)], 10)] == [(0, 7), (7, 10)]


@pytest.mark.parametrize("shares", [[], [0.5], [0.5, 0.6], [1.5, -0.5]])
def test_shares_must_add_up(shares: list[float]) -> None:
    with pytest.raises(ParameterError, match="add up to 1"):
        stage_spans([Stage(f"s{i}", share) for i, share in enumerate(shares)], 10)


def test_warm_up_and_cosine_by_formula() -> None:
    settings = TrainingSettings(learning_rate=2.0, warmup_share=0.2, epochs=1, steps_per_epoch=50)
    (span,) = stage_spans([Stage("joint")], 50)
    rates = [learning_rate(settings, span, step) for step in range(50)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx([1 + math.cos(math.pi * step / 40) for step in range(40)])
    assert max(rates) == rates[10] == 2.0


def test_polynomial_decay_by_formula() -> None:
    settings = TrainingSettings(learning_rate=0.01, warmup_share=0, optimiser="sgd")
    (span,) = stage_spans([Stage("joint")], 1000)
    rates = [learning_rate(settings, span, step) for step in (0, 500, 999)]
    assert rates == pytest.approx([0.01, 0.01 * 0.5**0.9, 0.01 * 0.001**0.9])


def test_each_stage_warms_up_and_decays_on_its_own() -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup_share=0.1)
    first, second = stage_spans([Stage("a", 0.5), Stage("b", 0.5)], 200)
    assert [learning_rate(settings, first, s) for s in range(100)] == [
        learning_rate(settings, second, s + 100) for s in range(100)
    ]


def test_terms_count_by_task() -> None:
    one = torch.ones(())
    terms = dict.fromkeys(["segmentation", "segmentation/dice", "markers/idh", "idh", "grade", "balance"], one)
    assert counted_terms(terms, Stage("joint")) == terms
    assert list(counted_terms(terms, Stage("s", tasks=("segmentation",)))) == ["segmentation", "segmentation/dice", "balance"]
    assert list(counted_terms(terms, Stage("m", tasks=("markers",)))) == ["markers/idh", "idh", "grade", "balance"]


def test_trainable_prefixes() -> None:
    model = ToyMethod()
    names = [name for name, _ in model.named_parameters()]
    set_trainable(model, Stage("heads", trainable=("head.", "marker.")), names)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        "head.weight",
        "head.bias",
        "marker.weight",
        "marker.bias",
    }
    set_trainable(model, Stage("all"), [name for name in names if name != "head.bias"])
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["head.bias"]
    with pytest.raises(ParameterError, match="stage 'x' trains 'decoder'"):
        set_trainable(model, Stage("x", trainable=("decoder",)), names)


def test_weight_decay_leaves_biases_and_norms_alone() -> None:
    decay = {}
    for group in build_optimiser(ToyMethod(), TrainingSettings(weight_decay=0.5)).param_groups:
        decay[group["weight_decay"]] = {p.ndim for p in group["params"]}
    assert decay == {0.5: {2, 5}, 0.0: {1}}
