"""The moving average of the weights, by its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.training.average import moving_average


def test_the_decay_grows_with_the_updates_up_to_its_value() -> None:
    model = nn.Linear(1, 1, bias=False)
    averaged = moving_average(model, 0.25)
    expected = None
    for n, value in enumerate([4.0, 8.0, -2.0, 6.0]):
        with torch.no_grad():
            model.weight.fill_(value)
        averaged.update_parameters(model)
        decay = min(0.25, (1 + n) / (10 + n))  # 0.1, 0.18, 0.25, 0.25: the first weights are taken as they are
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert averaged.module.weight.item() == pytest.approx(expected)


def test_the_average_is_a_copy_that_the_model_does_not_see() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged = moving_average(model, 0.9)
    before = {name: value.clone() for name, value in averaged.module.state_dict().items()}
    with torch.no_grad():
        model[0].weight.add_(1)
        model[1].running_mean.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in averaged.module.state_dict().items())
