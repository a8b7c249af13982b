from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from workbench.errors import ParameterError
from workbench.models.catalogue import list_models
from workbench.models.options import demo_options, options_class
from workbench.setup.parameters import BEFORE, UNSET, ExperimentParameters, as_recorded, cell_source

METHODS = ("unet", "mts_unet")


def test_a_misspelt_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ParameterError, match=r"'epoch' is unknown to unet: did you mean 'epochs'"):
        ExperimentParameters.build("unet", {"epoch": "3"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", "abc"), ("epochs", "2.5"), ("epochs", 0), ("epochs", -2), ("spacing", "nan"), ("size", "huge"), ("warmup", 1),
        ("modality_dropout", 1.0), ("experiment", "../elsewhere"), ("experiment", ""), ("markers", "idh,egfr"), ("runs", ""),
        ("levels", 99), ("mirror", "xx"), ("window_batch", 0), ("augmentation", "heavy"), ("augmentation", "light,blur=2"),
    ],
)  # fmt: skip
def test_an_ill_typed_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=name):
        ExperimentParameters.build("unet", {name: value})


def test_an_option_of_another_method_is_refused() -> None:
    with pytest.raises(ParameterError, match="gamma"):
        ExperimentParameters.build("unet", {"gamma": 2.0})


def test_an_unknown_method_lists_those_there_are() -> None:
    with pytest.raises(ParameterError, match="unet"):
        ExperimentParameters.build("resnet", {})


def test_text_and_typed_values_are_the_same_parameters() -> None:
    text = ExperimentParameters.build("mts_unet", {"epochs": "3", "augment": "false", "gamma": "1.5", "size": "demo"})
    typed = ExperimentParameters.build("mts_unet", {"epochs": 3, "augment": False, "gamma": 1.5, "size": "demo"})
    assert text == typed


def test_the_recipe_is_nnunets_at_the_papers_size_alone() -> None:
    paper, demo = (ExperimentParameters.build("unet", {"size": size}).resolve() for size in ("paper", "demo"))
    assert (paper.optimiser, paper.learning_rate, paper.weight_decay, paper.warmup, paper.clip) == ("sgd", 0.01, 3e-5, 0.0, 12.0)
    assert (paper.epochs, paper.steps_per_epoch, paper.batch_size, paper.patch, paper.overlap) == (1000, 250, 2, 128, 0.5)
    assert (paper.augmentation, paper.mirror, paper.batch_dice) == ("nnunet", "xyz", False)
    assert (demo.augmentation, demo.mirror, demo.window_batch) == ("light", "none", 1)
    assert paper.inference()["mirror"] == (0, 1, 2)
    assert demo.inference()["mirror"] == ()


@pytest.mark.parametrize("method", ["unet", "mome", "densenet121", "radiomics"])
@pytest.mark.parametrize("size", ["paper", "demo"])
def test_a_record_that_does_not_name_a_parameter_means_what_it_meant(method: str, size: str) -> None:
    """A run of the time when there was no choice, read today; what it names is left as it is."""
    made = ExperimentParameters.build(method, {"size": size}).resolve().identity()
    new = {*BEFORE, *options_class(method).later}
    old = {name: value for name, value in made.items() if name not in new}
    given = {name: value for name, value in old.items() if name != "method"}
    read = ExperimentParameters.build(method, as_recorded(method, given)).resolve()
    assert read.identity() == old
    if method == "unet":
        assert (read.augmentation, read.mirror, read.window_batch, read.batch_dice) == ("light", "none", 1, True)
    given = {name: value for name, value in made.items() if name != "method"}
    assert ExperimentParameters.build(method, as_recorded(method, given)).resolve().identity() == made


def test_augmentation_is_written_in_one_way() -> None:
    loose, tidy = (
        ExperimentParameters.build("unet", {"augmentation": text}).resolve()
        for text in (" nnunet , rotation=15.0, blur = 0, zoom_low=0.7", "nnunet,rotation=15,blur=0")
    )
    assert loose.identity() == tidy.identity()
    assert tidy.augmentation == "nnunet,rotation=15,blur=0"


def test_size_fills_in_what_is_unset_and_nothing_else() -> None:
    demo = ExperimentParameters.build("mts_unet", {"size": "demo", "epochs": 7, "feature_size": 24}).resolve()
    assert (demo.epochs, demo.feature_size) == (7, 24)
    assert (demo.spacing, demo.patch, demo.backbones) == (3.0, 64, 1)
    paper = ExperimentParameters.build("mts_unet", {}).resolve()
    assert (paper.spacing, paper.patch, paper.backbones, paper.feature_size) == (1.0, 96, 2, 48)


REPLACED = [(entry.name, name) for entry in list_models() if entry.status == "available" for name in demo_options(entry.name)]
"""Every option that `size=demo` changes."""


def executed(method: str, cells: list[str]) -> ExperimentParameters:
    """The parameters that a kernel reads after these cells."""
    shell = InteractiveShell()
    for cell in cells:
        shell.run_cell(cell, store_history=True).raise_error()
    return ExperimentParameters.from_namespace(method, shell.user_ns)


@pytest.mark.parametrize(("method", "name"), REPLACED)
def test_what_was_given_decides_also_where_it_is_the_default(method: str, name: str) -> None:
    """-1 and '' are values like others: they stand for the published one."""
    default = options_class(method).model_fields[name].default
    demo = ExperimentParameters.build(method, {"size": "demo"}).resolve()
    kept = ExperimentParameters.build(method, {"size": "demo", name: str(default)}).resolve()
    published = options_class(method).paper.get(name, default) if default == UNSET else default
    assert getattr(kept, name) == published
    assert getattr(demo, name) == demo_options(method)[name]
    assert (kept.identity() == demo.identity()) == (published == demo_options(method)[name])
    assert ExperimentParameters.from_namespace(method, {"size": "demo", name: default}).resolve() == kept
    assert kept.resolve() == kept


@pytest.mark.parametrize(("method", "name"), [("mts_unet", "backbones"), ("mome", "expert_share"), ("m4oe", "checkpointing")])
def test_a_notebook_tells_a_given_default_from_a_declared_one(method: str, name: str, tmp_path: Path) -> None:
    """Papermill assigns what it was given in a cell of its own, after the one that declares the defaults."""
    default = options_class(method).model_fields[name].default
    path, out = (str(tmp_path / f"{name}.ipynb") for name in ("given", "executed"))
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    cell = nbformat.v4.new_code_cell(cell_source(method), metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    cells = {}
    for values in ({"size": "demo"}, {"size": "demo", name: default}):
        made = papermill.execute_notebook(path, out, values, prepare_only=True)
        cells[name in values] = [cell.source for cell in made.cells]
    assert (
        executed(method, cells[True]).resolve() == ExperimentParameters.build(method, {"size": "demo", name: default}).resolve()
    )
    unsaid = ExperimentParameters.build(method, {"size": "demo"}).resolve()
    assert executed(method, cells[False]).resolve() == unsaid
    assert executed(method, [*cells[True], *cells[False]]).resolve() == unsaid, "the cell was executed again since"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", ["demo", "paper"])
def test_resolving_twice_changes_nothing_and_leaves_nothing_needed_unset(method: str, size: str) -> None:
    once = ExperimentParameters.build(method, {"size": size}).resolve()
    assert once.resolve() == once
    optional = {"threads", "steps_per_epoch"}  # the machine and the cohort say
    assert not [name for name, value in once.model_dump().items() if value == UNSET and name not in optional]


def test_identity_ignores_where_things_are_and_nothing_that_changes_a_result() -> None:
    base = ExperimentParameters.build("unet", {"size": "demo"})
    moved = ExperimentParameters.build("unet", {"size": "demo", "runs": "x", "cohort": "y", "workers": 2, "experiment": "z"})
    assert base.identity() == moved.identity()
    for name, value in {"seed": 1, "fold": 1, "epochs": 3, "width": 6, "threads": 1, "overlap": 0.25}.items():
        assert ExperimentParameters.build("unet", {"size": "demo", name: value}).identity() != base.identity(), name


def test_spelling_out_the_demo_values_is_the_same_run() -> None:
    """A run is known by what was done, not by how it was asked for."""
    base = ExperimentParameters.build("unet", {"size": "demo"})
    spelt = ExperimentParameters.build("unet", {"size": "demo", "spacing": base.resolve().spacing, "patch": base.resolve().patch})
    assert spelt.identity() == base.identity()


@given(st.integers(1, 10**6), st.booleans(), st.sampled_from(["", "t1", "t1c,flair"]))
def test_a_namespace_gives_the_parameters_back(epochs: int, augment: bool, modalities: str) -> None:
    namespace = {"epochs": epochs, "augment": augment, "modalities": modalities, "np": object(), "method": "something else"}
    built = ExperimentParameters.from_namespace("unet", namespace)
    assert (built.method, built.epochs, built.augment, built.modalities) == ("unet", epochs, augment, modalities)


@pytest.mark.parametrize("method", METHODS)
def test_executing_the_cell_gives_the_defaults(method: str) -> None:
    namespace: dict[str, object] = {}
    exec(cell_source(method), namespace)
    assert ExperimentParameters.from_namespace(method, namespace) == ExperimentParameters.build(method, {})


def test_a_file_of_weights_that_is_gone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """A run is known by what the file holds: moved, it is the same run; changed, another; gone, nobody can say."""

    def identity() -> object:
        return ExperimentParameters.build("mts_unet", {"pretrained": str(path)}).identity()["pretrained"]

    path = tmp_path / "a.pt"
    path.write_bytes(b"one")
    first = identity()
    path = path.rename(tmp_path / "b.pt")
    assert identity() == first
    path.write_bytes(b"another")
    assert identity() != first
    path.unlink()
    with pytest.raises(ParameterError, match=r"b\.pt cannot be read: No such file.*where the same file lies now"):
        identity()


def test_processes_are_part_of_a_run_where_there_are_several() -> None:
    one, two = (ExperimentParameters.build("unet", {"processes": n}).identity() for n in (1, 2))
    assert one == ExperimentParameters.build("unet", {}).identity()
    assert "processes" not in one, "runs of one process keep the ids they always had"
    assert two == one | {"processes": 2}
    with pytest.raises(ParameterError, match="'processes' is one of networks"):
        ExperimentParameters.build("radiomics", {"processes": 2})


def test_logit_adjustment_takes_the_place_of_class_weights() -> None:
    def resolved(**values: object) -> ExperimentParameters:
        return ExperimentParameters.build("mgmt_net", values).resolve()

    assert resolved().class_weights == "inverse_frequency"
    assert resolved(marker_loss="logit_adjusted").class_weights == "none"
    assert resolved(marker_loss="logit_adjusted").resolve() == resolved(marker_loss="logit_adjusted")
    with pytest.raises(ParameterError, match="balance the classes twice"):
        resolved(marker_loss="logit_adjusted", class_weights="effective_number")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mask_noise", "blurred"),
        ("mask_noise_mm", 0),
        ("mask_noise_share", 1.5),
        ("misregistration", -1),
        ("logit_adjustment", 0),
    ],
)
def test_noise_and_adjustment_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"parameter '{name}' = "):
        ExperimentParameters.build("unet", {name: value})
