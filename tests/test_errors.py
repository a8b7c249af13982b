"""What users read when something is wrong: place, message, way out, on one line for each problem."""

from __future__ import annotations

import pytest

from workbench.errors import InputError, ParameterError, Problem, RunError, RunHeldError, StopRequest, WorkbenchError


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(message="it is empty"), "it is empty"),
        (Problem(case="a", file="a/t1.nii", channel="t1", message="m", remedy="r"), "case a, file a/t1.nii, channel t1: m (r)"),
        (Problem(channel="t1", message="m"), "channel t1: m"),
        (Problem(severity="warning", message="m", remedy="r"), "m (r)"),
    ],
)
def test_a_problem_reads_place_message_remedy(problem: Problem, text: str) -> None:
    assert str(problem) == text
    assert Problem(**problem.as_dict()) == problem


def test_an_input_error_carries_all_problems() -> None:
    found = [Problem(case=name, message="m") for name in "ab"]
    error = InputError(*found)
    assert error.problems == tuple(found)
    assert str(error) == "case a: m\ncase b: m"


def test_all_are_printed_without_a_traceback() -> None:
    """The command line catches the one class; a run that is held is one of its own, since it ends by itself."""
    for kind in (InputError, ParameterError, RunError, RunHeldError, StopRequest):
        assert issubclass(kind, WorkbenchError)
    assert issubclass(RunHeldError, RunError)
    assert not issubclass(StopRequest, RunError)
