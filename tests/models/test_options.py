"""The options of every method: scalars, described, none that hides a shared parameter."""

from __future__ import annotations

import pytest

from workbench.models.options import OPTIONS, build_options, demo_options, options_class
from workbench.setup import parameters as experiment_parameters


@pytest.mark.parametrize("method", OPTIONS)
def test_options_are_scalars_with_a_description_and_a_valid_demo(method: str) -> None:
    shared = experiment_parameters.ExperimentParameters.model_fields
    for name, field in options_class(method).model_fields.items():
        assert isinstance(field.default, str | int | float | bool), name
        assert field.description, name
        assert name not in shared, f"'{name}' hides a shared parameter"
    build_options(method, demo_options(method))
    assert demo_options(method), "size=demo must make the model smaller"
