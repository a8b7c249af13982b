"""What is known of a method before anything is built: its card, its options, its sizes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.models.options_base import MethodOptions

BOTH_TASKS = (SEGMENTATION, MARKER_TASK)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One method as a reader meets it first."""

    name: str
    title: str
    paper: str
    """Where it was published."""
    tasks: tuple[str, ...]
    """'segmentation', 'markers' or both; or 'pretraining' alone."""
    modalities: tuple[str, ...] = ("t1", "t1c", "t2", "flair")
    """The sequences it was published with, most often those of the public glioma collections; empty = any."""
    status: Literal["available", "planned"] = "available"
    input: tuple[int, int, int] = (128, 128, 128)
    """Training patch at the paper's size, voxels."""
    markers: tuple[str, ...] = ()
    """Markers that `parameters` counts the heads of."""
    parameters: int | None = None
    """Parameters at the paper's size (these modalities and markers, four classes); None until it is built, and where
    there is no network."""
    reported: str = ""
    """Parameters as the paper or its public code has them, with where that stands; empty: not published."""
    network: bool = True
    """Whether it is a torch network; False: fitted in one go, without training steps (`experiments.radiomics`)."""
    hides: str = ""
    """How its own training hides sequences, whatever `modality_dropout` says; empty: it does not."""
    notebook: str = ""
    """Name of its notebook where several methods share one; empty: its own name."""

    @property
    def notebook_name(self) -> str:
        """Stem of the notebook that `workbench run` executes."""
        return self.notebook or self.name

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "paper": self.paper,
            "tasks": list(self.tasks),
            "modalities": list(self.modalities),
            "status": self.status,
            "parameters": self.parameters,
            "reported": self.reported,
            "input": [max(1, len(self.modalities)), *self.input] if self.network else None,
        }


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """Everything about one method that is not code; a family's `facts.FACTS` holds one for each of its methods."""

    card: ModelCard
    options: type[MethodOptions]
    builder: str = ""
    """`module:class` of the network inside the family, imported on first use; empty: there is no network."""
    demo: Mapping[str, Any] = field(default_factory=dict)
    """What `size=demo` sets, of the method's options and of the parameters that all methods share."""
    paper: Mapping[str, Any] = field(default_factory=dict)
    """What `size=paper` sets of the shared parameters; the options' defaults are the paper's."""
