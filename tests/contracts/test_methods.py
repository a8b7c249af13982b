"""What every registered method promises, over the registry. One forward and one backward are shared by all checks of a method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.contracts import MARKER_TASK, PRETRAINING, SEGMENTATION, Batch, Prediction
from workbench.errors import ParameterError
from workbench.evaluation.metrics import require_known
from workbench.models.catalogue import card, list_models
from workbench.models.method import MethodModule
from workbench.models.pretraining import PretrainingModule
from workbench.models.registry import BUILDERS, create_model

GIVEN = ("t1", "t1c", "t2", "flair")
MARKERS = ("idh", "codel", "grade")
# the smallest form of each method that still has all its parts; drop-out off, so that every parameter must get a gradient
TINY: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "unet": ({"width": 4, "levels": 3}, (16, 24, 8)),
    "mts_unet": (
        {
            "feature_size": 12, "window": 4, "cmd_channels": 4, "backbones": 1, "dropout": 0.0, "cmd_dropout": 0.0,
            "checkpointing": False,
        },
        (64, 64, 64),
    ),
    "mgmt_net": (
        {
            "modality_channels": 4, "width": 4, "embed": 6, "window": 4, "head_width": 4, "dropout": 0.0, "fusion_dropout": 0.0,
            "attention_gates": True,
        },
        (16, 24, 16),
    ),
    "segresnet": ({"width": 8, "stem_dropout": 0.0}, (16, 24, 16)),
    "swin_unetr": ({"feature_size": 12, "window": 4, "checkpointing": False}, (64, 64, 64)),
    "pretrain_swin": ({"feature_size": 12, "window": 4, "checkpointing": False, "projection": 16}, (64, 64, 64)),
    "amaes": ({"width": 4}, (32, 48, 32)),
    "amaes_pretrain": ({"width": 4}, (32, 48, 32)),
    "m4oe": ({"width": 12, "window": 2, "checkpointing": False}, (64, 32, 32)),
    "mmformer": (
        {"width": 4, "embedding": 16, "heads": 2, "mlp": 32, "positions": 32, "dropout": 0.0}, (32, 48, 32),
    ),
    "unetr": ({"width": 4, "hidden": 24, "heads": 2, "mlp": 48, "positions": 32}, (32, 48, 16)),
    "attention_unet": ({"width": 4, "depth": 3}, (16, 24, 8)),
    "mednext": ({"width": 4, "variant": "S"}, (32, 48, 32)),
    "densenet121": ({"width": 4, "growth": 2}, (64, 64, 64)),
    # the published curriculum gives the fused output no weight at the start, and nnU-Net none to the coarsest level
    "mome": ({"width": 4, "levels": 3, "curriculum": "constant", "lowest_weight": 0.1}, (16, 24, 8)),
    "mome_plus": ({"width": 4, "levels": 3, "curriculum": "constant", "lowest_weight": 0.1}, (16, 24, 8)),
    "pooled_unet": ({"width": 4, "levels": 3, "lowest_weight": 0.1}, (16, 24, 8)),
    "brainfm": (
        {"token": 8, "width": 24, "depth": 4, "heads": 2, "mlp": 48, "dropout": 0.0, "head_width": 4, "positions": 2},
        (16, 24, 16),
    ),
    # few tokens, so that some feature varies too little and the variance term is at work
    "brainfm_pretrain": (
        {
            "token": 8, "width": 24, "depth": 4, "heads": 2, "mlp": 48, "dropout": 0.0, "decoder_layers": 1, "decoder_mlp": 48,
            "mask_ratio": 0.9, "positions": 2,
        },
        (16, 16, 16),
    ),
    "masm": (
        {"width": 4, "levels": 3, "heads": 2, "grid": 4, "mlp_ratio": 1, "ratio_weight": 2.0, "shift": "learned"}, (16, 24, 8),
    ),
}  # fmt: skip

INCOMPLETE = {"mome_plus"}
"""Methods with a part that acts only where a sequence is missing: their training sample lacks flair."""


@dataclass
class Case:
    """A method with its shared passes, each made once."""

    name: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return TINY[self.name][1]

    def build(self, seed: int = 0, **options: Any) -> MethodModule:
        return create_model(self.name, modalities=GIVEN, classes=4, markers=MARKERS, seed=seed, **(TINY[self.name][0] | options))

    @property
    def pretraining(self) -> bool:
        return PRETRAINING in card(self.name).tasks

    @cached_property
    def model(self) -> MethodModule:
        return self.build()

    @cached_property
    def images(self) -> Tensor:
        """(2, 4, X, Y, Z): the second sample has no flair."""
        images = torch.randn(2, 4, *self.shape, generator=torch.Generator().manual_seed(1))
        images[1, GIVEN.index("flair")] = 0
        return images

    @cached_property
    def present(self) -> Tensor:
        present = torch.ones(2, 4, dtype=torch.bool)
        present[1, GIVEN.index("flair")] = False
        return present

    @cached_property
    def batch(self) -> Batch:
        """One complete sample: everything is known of it (see `INCOMPLETE`). Of pretraining both: contrast needs another one."""
        if self.pretraining:
            return Batch(GIVEN, self.images, self.present, None, ("", ""), {})
        labels = torch.randint(0, 4, (1, *self.shape), generator=torch.Generator().manual_seed(2))
        markers = {"idh": torch.tensor([1.0]), "codel": torch.tensor([0.0]), "grade": torch.tensor([4.0])}
        which = slice(1, 2) if self.name in INCOMPLETE else slice(1)
        return Batch(GIVEN, self.images[which], self.present[which], labels, ("glioma",), markers)

    @cached_property
    def trained(self) -> tuple[Prediction, dict[str, Tensor], dict[str, Tensor | None]]:
        """The one training pass: prediction, terms and gradients."""
        self.model.train()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # pretext tasks are drawn in the forward pass
            prediction = self.model(self.batch.images, self.batch.present, GIVEN)
        terms = self.model.loss(prediction, self.batch, 0.5)
        gradients = torch.autograd.grad(
            torch.stack(list(terms.values())).sum(), list(self.model.parameters()), retain_graph=True, allow_unused=True
        )
        named = {name: grad for (name, _), grad in zip(self.model.named_parameters(), gradients, strict=True)}
        return prediction, terms, named

    @cached_property
    def evaluated(self) -> Prediction:
        """The one evaluation pass over both samples, the training pass done: it moves the running statistics of batch norm."""
        _ = self.trained
        return self.predict(self.images, self.present, GIVEN)

    @cached_property
    def first(self) -> Prediction:
        """The first sample, the complete one, alone."""
        _ = self.trained
        return self.predict(self.images[:1], self.present[:1], GIVEN)

    def predict(self, images: Tensor, present: Tensor, given: tuple[str, ...], **how: Any) -> Prediction:
        self.model.eval()
        with torch.no_grad():
            return self.model(images, present, given, **how)

    def outputs(self, prediction: Prediction) -> list[Tensor]:
        segmentation = [] if prediction.segmentation is None else [prediction.segmentation]
        return [*segmentation, *prediction.markers.values(), *prediction.auxiliary.values()]


CASES = {entry.name: Case(entry.name) for entry in list_models() if entry.network}


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def same(left: Prediction, right: Prediction, tolerance: float) -> None:
    assert set(left.markers) == set(right.markers)
    if left.segmentation is not None and right.segmentation is not None:
        torch.testing.assert_close(left.segmentation, right.segmentation, rtol=tolerance, atol=tolerance)
    for name, logits in left.markers.items():
        torch.testing.assert_close(logits, right.markers[name], rtol=tolerance, atol=tolerance)
    for name, values in left.auxiliary.items():
        torch.testing.assert_close(values, right.auxiliary[name], rtol=tolerance, atol=tolerance)


def sample(prediction: Prediction, index: int) -> Prediction:
    segmentation = None if prediction.segmentation is None else prediction.segmentation[index : index + 1]
    markers, auxiliary = (
        {name: values[index : index + 1] for name, values in group.items()}
        for group in (prediction.markers, prediction.auxiliary)
    )
    return Prediction(segmentation, markers, auxiliary=auxiliary)


def test_every_available_method_is_built_and_tested() -> None:
    assert set(BUILDERS) == {entry.name for entry in list_models() if entry.network} == set(TINY)


def test_outputs_have_the_shapes_of_the_contract(case: Case) -> None:
    prediction = case.evaluated
    if SEGMENTATION in card(case.name).tasks:
        assert prediction.segmentation is not None
        assert prediction.segmentation.shape == (2, 4, *case.shape)
    expected = MARKERS if MARKER_TASK in card(case.name).tasks else ()
    assert tuple(prediction.markers) == expected == case.model.markers
    assert all(logits.shape in ((2, 1), (2, 3)) for logits in prediction.markers.values())
    if case.pretraining:
        assert all(len(values) == 2 for values in prediction.auxiliary.values()), "one row per sample"
        assert prediction.auxiliary
    else:
        assert not prediction.auxiliary, "auxiliary outputs are for training"
    assert all(bool(torch.isfinite(output).all()) for output in case.outputs(prediction))


UNSUPERVISED = {"unet": ["net.heads.1.weight", "net.heads.1.bias"]}
"""Parameters whose loss weighs 0: nnU-Net has a head at the coarsest decoder level and leaves it out of deep supervision."""


def test_training_is_finite_and_reaches_every_parameter(case: Case) -> None:
    prediction, terms, gradients = case.trained
    assert all(bool(torch.isfinite(output).all()) for output in case.outputs(prediction))
    assert terms
    assert all(term.ndim == 0 and bool(torch.isfinite(term)) and float(term.detach()) > 0 for term in terms.values())
    silent = [name for name, grad in gradients.items() if grad is None or not bool(grad.abs().sum() > 0)]
    assert silent == UNSUPERVISED.get(case.name, []), f"no gradient reaches {silent}"
    assert all(bool(torch.isfinite(grad).all()) for grad in gradients.values() if grad is not None)


@pytest.mark.parametrize(
    ("label_set", "known"),
    [("glioma", "all"), ("glioma_post", "none"), ("WT", "idh"), ("lesion", "none"), ("", "all"), ("", "idh"), ("", "none")],
)
def test_loss_supervises_what_is_known_and_nothing_else(case: Case, label_set: str, known: str) -> None:
    prediction, learned, _ = case.trained
    if case.pretraining:
        labels = torch.ones(2, *case.shape, dtype=torch.long)
        told = replace(case.batch, labels=labels, label_set=(label_set,) * 2, markers={"idh": torch.ones(2)})
        again = case.model.loss(prediction, told, 0.5)
        assert all(torch.equal(term, learned[name]) for name, term in again.items()), "it learns from images alone"
        return
    binary = label_set in ("WT", "lesion")
    labels = (case.batch.labels > 0).long() if binary else case.batch.labels  # type: ignore[operator]
    markers = {m: v if known in ("all", m) else torch.full_like(v, float("nan")) for m, v in case.batch.markers.items()}
    batch = replace(case.batch, labels=labels if label_set else None, label_set=(label_set,), markers=markers)
    terms = case.model.loss(prediction, batch, 0.0)
    total = torch.stack(list(terms.values())).sum()
    assert bool(torch.isfinite(total)), terms
    outputs = case.outputs(prediction)
    gradients = torch.autograd.grad(total, outputs, retain_graph=True)  # raises if a term lost the graph
    silent = {id(output): bool((grad == 0).all()) for output, grad in zip(outputs, gradients, strict=True)}
    # where markers alone are known, a marker's loss may reach the segmentation through a gate
    if SEGMENTATION in card(case.name).tasks and (label_set or known == "none"):
        assert silent[id(prediction.segmentation)] == (label_set == "")
    for marker, logits in prediction.markers.items():
        assert silent[id(logits)] == (known not in ("all", marker)), marker


def test_a_batch_of_mixed_presence_equals_its_cases_one_by_one(case: Case) -> None:
    same(sample(case.evaluated, 0), case.first, 2e-4)
    # the second case's flair is not given at all instead of marked absent, and a modality of no interest is
    given = ("swi", "t1", "t1c", "t2")
    images = torch.cat([torch.full_like(case.images[1:, :1], 9.0), case.images[1:, :3]], dim=1)
    present = torch.ones(1, 4, dtype=torch.bool)
    if case.model.open_modalities:  # none is of no interest to it
        with pytest.raises(AssertionError, match="not close"):
            same(sample(case.evaluated, 1), case.predict(images, present, given), 2e-4)
        present[0, 0] = False
    same(sample(case.evaluated, 1), case.predict(images, present, given), 2e-4)


def test_what_stands_in_an_absent_channel_is_never_read_and_channels_go_by_name(case: Case) -> None:
    images = case.images[1:].clone()
    images[:, GIVEN.index("flair")] = float("nan")
    order = [2, 0, 3, 1]
    permuted = case.predict(images[:, order], case.present[1:, order], tuple(GIVEN[i] for i in order))
    same(sample(case.evaluated, 1), permuted, 2e-4)


def test_features_are_a_vector_per_sample_of_what_is_there(case: Case) -> None:
    model = case.model
    if type(model).pooled_features is MethodModule.pooled_features or case.pretraining:
        return
    model.eval()
    images = case.images.clone()
    images[1, GIVEN.index("flair")] = float("nan")
    with torch.no_grad():
        both = model.pooled_features(*model.arrange(images, case.present, GIVEN))
        alone = model.pooled_features(*model.arrange(images[1:], case.present[1:], GIVEN))
    assert both is not None
    assert alone is not None
    assert both.ndim == 2
    assert len(both) == 2
    assert bool(torch.isfinite(both).all())
    torch.testing.assert_close(both[1:], alone, rtol=2e-4, atol=2e-4)


def test_segmentation_alone_equals_the_full_pass(case: Case) -> None:
    alone = case.predict(case.images[:1], case.present[:1], GIVEN, tasks=(SEGMENTATION,))
    assert not alone.markers
    if SEGMENTATION in card(case.name).tasks:
        assert alone.segmentation is not None
        assert torch.equal(alone.segmentation, case.first.segmentation)


def test_every_subset_is_what_the_method_says_of_it_alone(case: Case) -> None:
    if SEGMENTATION not in card(case.name).tasks:
        return
    shown = torch.tensor([[False, True, False, False], [True, False, True, True], [True] * 4])
    first = case.first  # the training pass before it moves the running statistics of batch norm
    with torch.no_grad():
        together = case.model.eval().forward_subsets(case.images[:1], shown, GIVEN)
    for row, logits in zip(shown[:2], together[:2], strict=True):
        torch.testing.assert_close(logits, case.predict(case.images[:1], row[None], GIVEN).segmentation, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(together[2], first.segmentation, rtol=2e-4, atol=2e-4)


def test_weights_survive_safetensors_to_the_bit(case: Case, tmp_path: Any) -> None:
    save_file({name: value.contiguous() for name, value in case.model.state_dict().items()}, tmp_path / "weights.safetensors")
    other = case.build(seed=1)
    assert any(not torch.equal(a, b) for a, b in zip(case.model.parameters(), other.parameters(), strict=True))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        loaded = other.eval()(case.images[:1], case.present[:1], GIVEN)
    same(case.first, loaded, 0.0)


def test_initial_weights_are_a_function_of_the_seed(case: Case) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again = case.build()
    assert torch.equal(before, torch.random.get_rng_state()), "building a model must not touch the global random state"
    fresh = case.build()
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), fresh.parameters(), strict=True))


def test_bad_input_is_refused_by_name(case: Case) -> None:
    model, present = case.model, case.present[:1]
    if model.divisor > 1:
        odd = [side + (1 if axis == 0 else 0) for axis, side in enumerate(case.shape)]
        with pytest.raises(ParameterError, match=f"multiples of {model.divisor}.*{odd[0]}x"):
            model(torch.zeros(1, 4, *odd), present, GIVEN)
    if model.minimum > model.divisor:
        with pytest.raises(ParameterError, match=f"at least {model.minimum}"):
            model(torch.zeros(1, 4, *[model.divisor] * 3), present, GIVEN)
    with pytest.raises(ParameterError, match="3 modality names"):
        model(case.images[:1], present, GIVEN[:3])
    if model.open_modalities:
        case.predict(case.images[:1, :1], present[:, :1], ("dwi",))
    else:
        with pytest.raises(ParameterError, match="built for t1, t1c, t2, flair and given only dwi"):
            model(case.images[:1, :1], present[:, :1], ("dwi",))
    with pytest.raises(ParameterError, match="sample 0"):
        model(case.images[:1], torch.zeros_like(present), GIVEN)
    with pytest.raises(ParameterError, match="more than once"):
        model(case.images[:1], present, ("t1", "t1", "t2", "flair"))


def test_smallest_input_is_accepted(case: Case) -> None:
    side = max(case.model.minimum, case.model.divisor)
    if side**3 < 40**3:  # the others run at their minimum in every test above
        images = torch.randn(1, 4, side, side, side, generator=torch.Generator().manual_seed(3))
        assert all(bool(torch.isfinite(o).all()) for o in case.outputs(case.predict(images, case.present[:1], GIVEN)))
    else:
        assert case.shape == (side, side, side)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.pretraining])
def test_pretraining_examines_repeatably_and_leaves_an_encoder(name: str) -> None:
    case = CASES[name]
    model = case.model.eval()
    assert isinstance(model, PretrainingModule)
    before = torch.random.get_rng_state()
    first, again = (model.examine(case.images, case.present, GIVEN, seed=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert model.score_metric in first.metrics
    require_known(first.metrics, PRETRAINING)
    for name, values in first.metrics.items():
        assert values.shape == (2,), name
        assert torch.equal(values, again.metrics[name])
    assert all(picture.shape == case.images.shape for picture in first.pictures.values())
    assert not bool(list(first.pictures.values())[-1][1, GIVEN.index("flair")].any()), "nothing is asked of an absent sequence"
    encoder = model.encoder_state()
    assert encoder
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in encoder.items())
    assert {"architecture", "method", "modalities"} <= set(model.encoder_description())


def test_it_describes_itself(case: Case) -> None:
    counts = case.model.parameters_by_component()
    assert sum(counts.values()) == case.model.parameter_count() == sum(p.numel() for p in case.model.parameters())
    svg = case.model.diagram()
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert "currentColor" in svg
    stages = case.model.stages()
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert case.model.architecture()["method"] == case.name
