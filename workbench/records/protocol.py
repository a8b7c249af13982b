"""Where the protocols of runs differ, as far as that bears on comparing their results; from what their records say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from workbench.models.catalogue import CARDS
from workbench.records.run_folder import RunFolder

TOLERANCE = 1.05
"""Ratio of two budgets above which they count as unequal."""


class Recorded(Protocol):
    """What is asked of a run: a row of `index.list_runs` has it."""

    @property
    def title(self) -> str:
        """Short name."""

    @property
    def method(self) -> str:
        """Its method."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Of its `spec.json`."""

    @property
    def budget(self) -> dict[str, Any]:
        """Of its `status.json`: steps, samples, flops ..."""


@dataclass(frozen=True)
class RunProtocol:
    """The protocol of an opened run folder."""

    title: str
    method: str
    parameters: dict[str, Any]
    budget: dict[str, Any]

    @classmethod
    def of(cls, run: RunFolder) -> RunProtocol:
        """From its `spec.json` and `status.json`."""
        return cls(run.folder.name, run.spec["method"], run.spec["parameters"], run.status.get("budget") or {})


def exposure(method: str, parameters: Mapping[str, Any]) -> str:
    """How training hid sequences, in words; empty where the record does not say."""
    card = CARDS.get(method)
    if card is None or "modality_dropout" not in parameters:
        return ""
    share, found = float(parameters["modality_dropout"]), []
    if share and parameters.get("dropout_mode") == "subset":
        found.append("any subset of sequences" if share == 1 else f"any subset of sequences with probability {share:g}")
    elif share:
        found.append(f"each sequence hidden with probability {share:g}")
    if card.hides:
        found.append(card.hides)
    if withheld := str(parameters.get("withhold") or ""):
        found.append(f"never {withheld.replace(',', ' or ')}")
    return ", ".join(found) or "all sequences always"


def optimisation(method: str, parameters: Mapping[str, Any]) -> str:
    """Optimiser, peak learning rate, schedule and batch, in words; empty where the record does not say."""
    if not parameters.get("optimiser") or "learning_rate" not in parameters:
        return ""
    sgd = parameters["optimiser"] == "sgd"
    warmup = float(parameters.get("warmup") or 0)
    batch = int(parameters.get("batch_size", 1)) * int(parameters.get("accumulate", 1)) * int(parameters.get("processes", 1))
    return (
        f"{'SGD' if sgd else 'AdamW'} {float(parameters['learning_rate']):g}, {'polynomial' if sgd else 'cosine'} decay"
        f"{f' after {warmup:.0%} warm-up' if warmup else ''}, weight decay {float(parameters.get('weight_decay') or 0):g}, "
        f"batches of {batch}"
    )


def images(method: str, parameters: Mapping[str, Any]) -> str:
    """What is done to images in training and at the test, in words; empty where the record does not say."""
    if "augment" not in parameters:
        return ""
    changed = f"augmentation {parameters.get('augmentation') or 'light'}" if parameters["augment"] else "no augmentation"
    axes = str(parameters.get("mirror") or "none")
    return changed if axes == "none" else f"{changed}, test-time mirroring along {axes}"


_TOPICS: dict[str, tuple[str, Callable[[str, Mapping[str, Any]], str]]] = {
    "sequences shown in training": ("Training showed these runs different sequences", exposure),
    "optimisation": ("These runs were optimised differently", optimisation),
    "augmentation or mirroring": ("These runs saw images differently", images),
}
TREATMENT = (*_TOPICS, "operations")
"""The respects of `protocol_differences` but steps and samples."""
_SPENT = {"steps": "optimiser steps", "samples": "samples", "flops": "operations"}


def protocol_remarks(runs: Iterable[Recorded]) -> list[str]:
    """A sentence for each respect in which the runs were not treated alike, see `protocol_differences`."""
    return list(protocol_differences(runs).values())


def protocol_differences(runs: Iterable[Recorded]) -> dict[str, str]:
    """Respect in which the runs were not treated alike -> a sentence that says how: sequences hidden in training, optimiser with
    its schedule, augmentation and mirroring, and effort in steps, samples and operations (where they differ by over 5 %).

    What a record does not say (imported predictions, methods without a network) is left out of account.
    """
    known = list(runs)
    found = {}
    for topic, (sentence, words) in _TOPICS.items():
        groups: dict[str, list[str]] = {}
        for run in known:
            with suppress(TypeError, ValueError):  # a record that somebody wrote by hand
                if text := words(run.method, run.parameters):
                    groups.setdefault(text, []).append(run.title)
        if len(groups) > 1:
            found[topic] = f"{sentence}: {'; '.join(f'{text} ({_listed(titles)})' for text, titles in groups.items())}."
    return found | _unequal_effort(known)


def _unequal_effort(runs: Sequence[Recorded]) -> dict[str, str]:
    """Steps or else samples, of which one says it; and operations."""
    found: dict[str, str] = {}
    for key, title in _SPENT.items():
        numbers = {run.title: run.budget.get(key) for run in runs}
        spent = {name: value for name, value in numbers.items() if isinstance(value, int | float) and value > 0}
        said = key == "samples" and "optimiser steps" in found
        if len(spent) > 1 and max(spent.values()) > TOLERANCE * min(spent.values()) and not said:
            number = "{:.1e}" if key == "flops" else "{:,.0f}"
            listed = _listed([f"{name} {number.format(value)}" for name, value in spent.items()])
            found[title] = f"Unequal effort: these runs took different numbers of {title} ({listed})."
    return found


def _listed(titles: Sequence[str], most: int = 6) -> str:
    return ", ".join(titles[:most]) + (f" and {len(titles) - most} more" if len(titles) > most else "")
