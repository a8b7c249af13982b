"""`ExperimentParameters`: the typed, flat list of settings of one experiment; the same list is a notebook's first cell.

Types are str, int, float and bool only, since Papermill's inspection drops richer annotations; an empty string or -1 means
"unset". `resolve()` replaces what is unset by what `size` says: `paper` is the published setting, `demo` scales width, patch,
steps and epochs down together, so that every notebook runs in about a minute on two cores.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator
from pydantic.fields import FieldInfo

from workbench.contracts import MARKERS
from workbench.errors import ParameterError
from workbench.files import file_digest
from workbench.models.catalogue import card, list_models
from workbench.models.options import demo_options, options_class
from workbench.models.options_base import UNSET
from workbench.sampling.augmentation_settings import canonical_augmentation
from workbench.setup.sizes import size_defaults

DIGEST_PREFIX = "blake2b:"
FILE_PARAMETERS = ("pretrained", "embeddings")
"""Options that name a file; a run is known by what it holds."""
EXPERIMENT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LONGEST_NAME = 100
"""Letters of an experiment's name: it becomes the name of folders and files, which file systems limit to 255."""
LARGEST_SEED = 2**32 - 1
"""The largest that scikit-learn and UMAP take."""

_WITHOUT_NETWORK = (
    "method", "cohort", "runs", "experiment", "size", "seed", "fold", "modalities", "markers", "spacing", "threads", "resamples",
)  # fmt: skip
"""The shared parameters that a method without a network has."""

BEFORE: dict[str, Any] = {
    "processes": 1, "augmentation": "light", "mirror": "none", "window_batch": 1, "logit_adjustment": 1.0, "mask_noise": "none",
    "mask_noise_mm": 3.0, "mask_noise_share": 0.5, "misregistration": 0.0,
}  # fmt: skip
"""Shared parameters that came when there were runs already, and what they mean in the record of a run that does not name them."""

DEFAULT_COHORT = {"demo": "cohorts/phantom", "paper": "cohorts/phantom-2mm"}
"""Where the embedded phantom cohort is made when no cohort is named."""


class ExperimentParameters(BaseModel):
    """Settings that every method has; `for_method` adds the method's own. Order is the order of the notebook's cell."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: str = Field("", description="method, as in `workbench models`")
    cohort: str = Field("", description="cohort folder; empty: the embedded phantom, made on first use")
    runs: str = Field("runs", min_length=1, description="folder of all runs")
    experiment: str = Field(
        "default", pattern=EXPERIMENT_PATTERN, max_length=LONGEST_NAME, description="name of the group of runs"
    )
    size: Literal["demo", "paper"] = Field("paper", description="demo: minutes on two cores; paper: the published setting")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="all randomness is drawn from (seed, purpose, step)")
    fold: int = Field(0, ge=0, description="test fold; the next one is the validation fold")
    modalities: str = Field("", description="comma-separated names; empty: all of the cohort")
    markers: str = Field("", description="comma-separated markers to predict; empty: the method's; none: no markers")
    spacing: float = Field(float(UNSET), description="isotropic working resolution in mm")
    patch: int = Field(UNSET, description="edge of the training patch in voxels; the largest edge for whole brains")
    sampling: Literal["", "patch", "whole", "tumour"] = Field("", description="patch, whole brain or tumour-centred crop")
    batch_size: int = Field(UNSET, description="samples per optimiser step and device")
    accumulate: int = Field(UNSET, description="batches per optimiser step")
    epochs: int = Field(UNSET, description="passes of steps_per_epoch optimiser steps")
    steps_per_epoch: int = Field(UNSET, description="optimiser steps per epoch; unset: one pass over the training cases")
    optimiser: Literal["", "adamw", "sgd"] = Field(
        "", description="adamw: cosine decay; sgd: Nesterov momentum 0.99, polynomial decay; unset: adamw, or the method's"
    )
    learning_rate: float = Field(float(UNSET), description="peak learning rate")
    weight_decay: float = Field(float(UNSET), description="decoupled weight decay")
    warmup: float = Field(float(UNSET), lt=1, description="share of the steps with a linearly rising learning rate")
    ema: float = Field(float(UNSET), lt=1, description="decay of the moving average of the weights; 0: none")
    clip: float = Field(float(UNSET), description="largest gradient norm; 0: no clipping")
    patience: int = Field(UNSET, description="validations without improvement before stopping; unset: never")
    validate_every: int = Field(UNSET, description="epochs between validations")
    augment: bool = Field(True, description="random changes of the training images, see augmentation")
    augmentation: str = Field(
        "",
        description="set of changes: light or nnunet, followed by what differs as in the README; unset: light, or the method's",
    )
    modality_dropout: float = Field(float(UNSET), description="probability, see dropout_mode; at least one modality stays")
    dropout_mode: Literal["", "each", "subset"] = Field(
        "", description="each: drop each modality; subset: show a uniformly drawn subset; unset: each, or the method's"
    )
    withhold: str = Field("", description="comma-separated modalities that training and validation never show; empty: none")
    subsets: Literal["", "all", "few", "none"] = Field(
        "", description="test cases judged under every subset of their modalities; few: six cases"
    )
    mask_noise: Literal["none", "eroded", "dilated", "shifted", "dropped"] = Field(
        "none",
        description="what is wrong with the training masks; dropped: lesions are missing; validation and test stay clean",
    )
    mask_noise_mm: float = Field(3.0, gt=0, le=50, description="how far masks are eroded, dilated or shifted, mm")
    mask_noise_share: float = Field(
        0.5, gt=0, le=1, description="share of the training cases whose masks are wrong; dropped: of their lesions"
    )
    misregistration: float = Field(
        0.0,
        ge=0,
        le=50,
        description="mm by which each sequence but a case's first lies aside in training; validation and test stay clean",
    )
    marker_loss: Literal["", "cross_entropy", "focal", "logit_adjusted"] = Field(
        "", description="loss of the markers; logit_adjusted: rare classes by the log of their frequency; unset: cross-entropy"
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="focusing exponent of the focal loss")
    logit_adjustment: float = Field(1.0, gt=0, le=10, description="strength of logit_adjusted; 1: balanced softmax")
    class_weights: Literal["", "none", "inverse_frequency", "effective_number"] = Field(
        "",
        description="weights of a marker's classes, from the training cases; unset: inverse_frequency; none if logit_adjusted",
    )
    label_smoothing: float = Field(float(UNSET), lt=1, description="share of each marker label that is spread over all classes")
    oversample: str = Field("", description="marker whose classes are drawn equally often in training; empty: none")
    precision: Literal["auto", "no", "bf16"] = Field("auto", description="auto: bf16 on CUDA, else float32")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
    processes: int = Field(1, ge=1, le=64, description="GPUs, or processes on a CPU, that train together; batch_size is of each")
    threads: int = Field(UNSET, description="CPU threads; recorded, since results are bit-identical per thread count only")
    workers: int = Field(0, ge=0, description="data loading processes")
    overlap: float = Field(0.5, ge=0, lt=1, description="overlap of sliding windows at inference")
    mirror: Literal["", "none", "x", "y", "z", "xy", "xz", "yz", "xyz"] = Field(
        "", description="axes over whose flips a prediction is averaged (xyz: eight times the work); unset: none, or the method's"
    )
    window_batch: int = Field(UNSET, description="sliding windows per forward pass at inference")
    resamples: int = Field(1000, ge=100, description="bootstrap resamples of subjects behind each interval")
    maps: int = Field(4, ge=0, description="cases for which explanation maps are written")
    cam: Literal["both", "gradcam", "gradcam++"] = Field(
        "both", description="class activation maps: Grad-CAM, Grad-CAM++ or both"
    )

    @field_validator("augmentation")
    @classmethod
    def _augmentation(cls, text: str) -> str:
        return canonical_augmentation(text) if text.strip() else ""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for name in (
            "spacing", "patch", "batch_size", "accumulate", "epochs", "steps_per_epoch", "learning_rate", "validate_every",
            "threads", "window_batch",
        ):  # fmt: skip
            value = getattr(self, name)
            if value <= 0 and value != UNSET:
                raise ValueError(f"'{name}' must be positive, or {UNSET} for unset; found {value}")
        for name in ("weight_decay", "warmup", "clip", "patience", "modality_dropout", "ema", "label_smoothing"):
            value = getattr(self, name)
            if value < 0 and value != UNSET:
                raise ValueError(f"'{name}' must be 0 or more, or {UNSET} for unset; found {value}")
        if self.marker_loss == "logit_adjusted" and self.class_weights not in ("", "none"):
            raise ValueError(
                f"'class_weights' {self.class_weights} and marker_loss 'logit_adjusted' balance the classes twice: choose one"
            )
        if self.modality_dropout > 1 or (self.modality_dropout == 1 and self.dropout_mode != "subset"):
            raise ValueError(f"'modality_dropout' must be below 1 (1 with dropout_mode 'subset'); found {self.modality_dropout}")
        return self

    @classmethod
    def for_method(cls, method: str) -> type[Self]:
        """The parameter class of one method: the shared fields and the method's options.

        Raises:
            ParameterError: no such method; the message lists those there are.
        """
        card(method)
        return _class_for(method)  # type: ignore[return-value]

    @classmethod
    def build(cls, method: str, values: Mapping[str, Any]) -> Self:
        """Check values (text or typed) and build the parameters of `method`.

        Raises:
            ParameterError: unknown or ill-typed parameters, each named, with the nearest known name.
        """
        chosen = cls.for_method(method)
        known = chosen.model_fields
        messages = []
        for name in values:
            if name in known and name not in applicable(method):
                messages.append(f"parameter '{name}' is one of networks: {method} is fitted without training steps or patches")
            elif name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"see `workbench run {method} --list-parameters`"
                messages.append(f"parameter '{name}' is unknown to {method}: {hint}")
        if messages:
            raise ParameterError("\n".join(messages))
        try:
            parameters = chosen(**{**values, "method": method})
        except ValidationError as error:
            raise ParameterError("\n".join(_explain(item) for item in error.errors())) from None
        for name in parameters.marker_names():
            if name not in MARKERS:
                raise ParameterError(f"parameter 'markers': '{name}' is unknown; there are {', '.join(MARKERS)} and 'none'")
        if parameters.oversample and parameters.oversample not in MARKERS:
            raise ParameterError(f"parameter 'oversample': '{parameters.oversample}' is unknown; there are {', '.join(MARKERS)}")
        return parameters

    @classmethod
    def from_namespace(cls, method: str, namespace: Mapping[str, Any]) -> Self:
        """Read a notebook's parameters cell: of all names in `namespace` those that are fields.

        What still stands as the cell declares it (`name: type = value`) was not given. What a cell assigns without a type, as
        Papermill's does, was given, whatever its value; so was everything in a mapping in which no code ran.
        """
        values = {name: namespace[name] for name in applicable(method) if name in namespace and name != "method"}
        if "__builtins__" in namespace:
            fields, assigned = cls.for_method(method).model_fields, _assigned(namespace.get("In", ()))
            values = {name: value for name, value in values.items() if name in assigned or value != fields[name].default}
        return cls.build(method, values)

    def resolve(self) -> Self:
        """The same parameters with everything unset replaced by what `size` and the method say.

        An option that was given stays as given, also where its value is the paper's and `size` is demo.
        """
        values = self.model_dump()
        if self.marker_loss == "logit_adjusted":
            values["class_weights"] = "none"
        resolved = values | {k: v for k, v in size_defaults(self.method, self.size).items() if _unset(values.get(k))}
        if self.size == "demo":
            given = self.model_fields_set
            resolved |= {name: value for name, value in demo_options(self.method).items() if name not in given}
        resolved |= {name: value for name, value in options_class(self.method).paper.items() if _unset(resolved[name])}
        if not resolved["cohort"]:
            resolved["cohort"] = DEFAULT_COHORT[self.size]
        return type(self)(**resolved)

    def identity(self) -> dict[str, Any]:
        """The resolved parameters that make a run what it is: what is hashed into its id and written to `spec.json`.

        Folders and the number of loading processes do not change a result and are left out. A file of pretrained weights
        or of text vectors is what it holds, wherever it lies: its digest stands for its path. What stands in `BEFORE`, and an
        option's `later` ones, are named where they differ from what held before there was a choice: runs keep their ids.

        Raises:
            ParameterError: there is no such file.
        """
        outside = {"cohort", "runs", "experiment", "workers"}
        of_method = set(applicable(self.method)) - outside
        values = {name: value for name, value in self.resolve().model_dump().items() if name in of_method}
        values = {name: value for name, value in values.items() if name not in BEFORE or value != BEFORE[name]}
        values = options_class(self.method).without_later(values)
        for name in FILE_PARAMETERS:
            if values.get(name):
                values[name] = pretrained_digest(values[name], name)
        return values

    def options(self) -> dict[str, Any]:
        """The method's own options, for `create_model`."""
        return {name: getattr(self, name) for name in options_class(self.method).model_fields}

    def inference(self) -> dict[str, Any]:
        """How cases are read, as `inference.predict.predict_case` and `inference.subsets.predict_subsets` take it; resolved."""
        return {
            "overlap": self.overlap, "whole": self.sampling == "whole", "precision": self.precision,
            "mirror": () if self.mirror == "none" else tuple("xyz".index(axis) for axis in self.mirror),
            "window_batch": self.window_batch,
        }  # fmt: skip

    def modality_names(self) -> tuple[str, ...]:
        """`modalities` as a tuple; empty = unset."""
        return _names(self.modalities)

    def withheld(self) -> tuple[str, ...]:
        """`withhold` as a tuple."""
        return _names(self.withhold)

    def marker_names(self) -> tuple[str, ...]:
        """`markers` as a tuple; empty = unset or none."""
        return () if self.markers.strip() == "none" else _names(self.markers)


def applicable(method: str) -> list[str]:
    """Names of the parameters that mean something to a method, `method` first; others cannot be set.

    A method that is no network (radiomics) is fitted in one go: what governs patches, batches, steps and devices is not its own.
    """
    fields = ExperimentParameters.for_method(method).model_fields
    options = options_class(method).model_fields
    return [name for name in fields if card(method).network or name in options or name in _WITHOUT_NETWORK]


def as_recorded(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run as its record names them, and what it does not name as it was meant then.

    Without this a run of an older version would take over what is the default today.
    """
    own = set(applicable(method))
    unsaid = {name: value for name, value in BEFORE.items() if name in own} | options_class(method).unsaid()
    return unsaid | dict(values)


def cell_fields(method: str) -> dict[str, FieldInfo]:
    """What the parameters cell of the method's notebook lists, in order.

    Where several methods share a notebook, these are `method`, and the options of all of them: an option is read by the methods
    that have it, and refused by name when it is given to another.
    """
    sharing = [entry.name for entry in list_models() if entry.notebook_name == card(method).notebook_name]
    fields: dict[str, FieldInfo] = {}
    for mate in sharing:
        for name in applicable(mate):
            field = ExperimentParameters.for_method(mate).model_fields[name]
            first = fields.setdefault(name, field)
            if name != "method" and (first.default, first.description) != (field.default, field.description):
                raise TypeError(f"option '{name}' of {mate} differs from the one of that name in the same notebook")
    if len(sharing) == 1:
        del fields["method"]
    return fields


def pretrained_digest(path: str, parameter: str = "pretrained") -> str:
    """'blake2b:' and the digest of a file that `parameter` names, read again only when it changed.

    Raises:
        ParameterError: there is no such file.
    """
    if path.startswith(DIGEST_PREFIX):  # parameters read back from a run's spec
        return path
    try:
        state = Path(path).stat()
        return DIGEST_PREFIX + _digest(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise ParameterError(
            f"parameter '{parameter}': the file {path} cannot be read: {error.strerror}. A run is known by what the file holds: "
            "to go on with one, give the path where the same file lies now"
        ) from error


@lru_cache(maxsize=16)
def _digest(path: str, size: int, modified: int) -> str:
    return file_digest(path)


def cell_source(method: str) -> str:
    """Source of a method notebook's parameters cell; a test holds every notebook's first cell equal to it."""
    return "\n".join(
        f"{name}: {type(field.default).__name__} = {field.default!r}  # {field.description}"
        for name, field in cell_fields(method).items()
    )


def _explain(item: Any) -> str:
    if not item["loc"]:  # a rule of the whole model names its parameter itself
        return f"parameter {item['msg'].removeprefix('Value error, ')}"
    return f"parameter '{'.'.join(map(str, item['loc']))}' = {item['input']!r}: {item['msg']}"


def _assigned(cells: Sequence[str]) -> set[str]:
    """The names that executed cells assign without declaring them: a parameters cell declares (`name: type = value`)."""
    found: set[str] = set()
    for source in cells:
        with suppress(SyntaxError):
            for node in ast.parse(source).body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found.discard(node.target.id)
                elif isinstance(node, ast.Assign):
                    parts = [part for target in node.targets for part in ast.walk(target)]
                    found |= {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _unset(value: Any) -> bool:
    return value == "" or (not isinstance(value, bool) and value == UNSET)


@cache
def _class_for(method: str) -> type[ExperimentParameters]:
    shared = ExperimentParameters.model_fields
    fields: dict[str, Any] = {"method": (str, Field(method, description=shared["method"].description))}
    for name, field in options_class(method).model_fields.items():
        if name in shared:
            raise TypeError(f"option '{name}' of {method} hides a shared parameter")
        fields[name] = (field.annotation, field)
    return create_model(f"Parameters_{method}", __base__=ExperimentParameters, **fields)
