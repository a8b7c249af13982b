"""BrainFM-MRI's pretraining against its public code (BrainFM/brainfm, branch dev): tokens, encoder, decoder, loss terms.

Whole steps are compared with the public code's kept tokens. Its masked tokens carry the embedding that it gives them, which is
another sequence's in about half of them (`brainfm_pretrain`, departure 12): the tests read from its decoder's input which.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from public_arrays import Reference
from torch import Tensor

from workbench.models.brainfm.brainfm_pretrain import BrainFMPretrain
from workbench.models.brainfm.pretext import covariance_term, keep_count, regularisation_weights, variance_term
from workbench.models.brainfm.released import published_names
from workbench.models.registry import create_model

SEQUENCES = ("t1", "t2", "flair")
TOKENS = 12
SIZES = {"token": 8, "width": 48, "depth": 4, "heads": 4, "mlp": 96, "positions": 4, "decoder_layers": 2, "decoder_mlp": 64}
PUBLISHED = {
    "decoder": "published", "imputation": 0.0, "regularisation": "dev", "keep": "batch_minimum", "dropout": 0.0,
    "modality_embedding": "one_hot",
}  # fmt: skip


@pytest.fixture(scope="module")
def brainfm(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("brainfm")


@pytest.fixture(scope="module")
def model(brainfm: Reference) -> BrainFMPretrain:
    made = create_model("brainfm_pretrain", modalities=SEQUENCES, **SIZES, **PUBLISHED)
    assert isinstance(made, BrainFMPretrain)
    sources = published_names(made.state_dict())
    state = {name: s.change(*(brainfm.weights[n] for n in s.names)) for name, s in sources.items()}
    made.load_state_dict(state | {"encoder.modality.vectors": brainfm.inputs["modality_vectors"]})
    return made.eval()


def test_every_weight_of_the_public_code_has_a_place(model: BrainFMPretrain, brainfm: Reference) -> None:
    used = {name for source in published_names(model.state_dict()).values() for name in source.names}
    assert used == set(brainfm.weights)


def embedded(model: BrainFMPretrain, images: Tensor) -> Tensor:
    return model.encoder.tokens(images, model.encoder.modality(SEQUENCES, images)).flatten(1, 2)


def kinds(places: Tensor) -> Tensor:
    """Which sequence each token is of: 12 tokens each."""
    return places // TOKENS


@torch.no_grad()
def test_tokens_and_positions(model: BrainFMPretrain, brainfm: Reference) -> None:
    brainfm.check("embedded_full", embedded(model, brainfm.inputs["images"]))
    corners = torch.stack([model.encoder.positions[place] for place in ((0, 0, 0), (1, 2, 1), (3, 3, 3))])
    beyond = model.encoder.places((5, 1, 1))[[4, 4]]
    brainfm.check("positions_probe", torch.cat([corners, beyond])[None])


@torch.no_grad()
def test_encoder_of_all_tokens(model: BrainFMPretrain, brainfm: Reference) -> None:
    """Rows of absent sequences mean nothing; sample 1 of 'padded' lacks the second."""
    tokens, condition = embedded(model, brainfm.inputs["images"]), model.encoder.modality(SEQUENCES, torch.zeros(1))
    everything = torch.arange(36)
    full = model.encoder(tokens, condition, kinds(everything).expand(2, -1))[0]
    brainfm.check("states_full", full)
    there = torch.cat([everything[:TOKENS], everything[2 * TOKENS :]])
    absent = np.array(brainfm.outputs["states_padded"])
    if absent.ndim == 3:  # thinned rows cannot be told apart: in the full arrays only
        padded = torch.from_numpy(absent.copy())
        padded[0] = full[0]
        padded[1, there] = model.encoder(tokens[1:, there], condition, kinds(there)[None])[0][0]
        brainfm.check("states_padded", padded)


@pytest.mark.parametrize("case", ["full", "padded"])
@torch.no_grad()
def test_a_step(model: BrainFMPretrain, brainfm: Reference, case: str) -> None:
    images, keep = brainfm.inputs["images"], torch.from_numpy(np.asarray(brainfm.outputs[f"keep_index_{case}"]))
    present = brainfm.inputs[f"present_{case}"]
    fewest = keep_count(int(present.sum(1).min()) * TOKENS, 0.8)
    assert keep.shape == (2, fewest), "batch_minimum"
    noise = brainfm.inputs["noise"].masked_fill(~present.repeat_interleave(TOKENS, dim=1), torch.inf)
    assert torch.equal(noise.argsort(1)[:, :fewest], keep)
    hidden = torch.ones(2, 36, dtype=torch.bool).scatter(1, keep, False)
    brainfm.check(f"mask_map_{case}", hidden)

    tokens, condition = embedded(model, images), model.encoder.modality(SEQUENCES, images)
    sample = torch.arange(2)[:, None]
    memory = model.encoder(tokens[sample, keep], condition, kinds(keep))[0]
    brainfm.check(f"memory_{case}", memory)
    if case == "full":
        reconstruction = _decoded(model, brainfm, memory, keep, hidden)
        wanted = model.encoder.patches(images).flatten(1, 2)
        error = (reconstruction - wanted).square().mean(2)[hidden].double().mean()
        variance, covariance = variance_term(memory.flatten(0, 1), biased=True), covariance_term(memory.flatten(0, 1))
        found = [float(error), float(variance), float(covariance)]
        np.testing.assert_allclose(found, brainfm.outputs["losses_full"][:3], rtol=1e-4)
        weights = regularisation_weights(20_000 / 139_000, "dev")
        scale, total = brainfm.outputs["losses_full"][3:]
        assert weights == pytest.approx((scale, 0.03 * scale))
        assert found[0] + weights[0] * found[1] + weights[1] * found[2] == pytest.approx(total, rel=1e-4)


def _decoded(model: BrainFMPretrain, brainfm: Reference, memory: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
    """The decoder on its own input and on the public code's; they differ in the sequence of some masked tokens alone."""
    decoder, positions = model.decoder, model.encoder.places((2, 3, 2)).repeat(3, 1).expand(2, -1, -1)
    vectors = model.encoder.modality(SEQUENCES, memory)
    own = decoder.laid_out(memory, keep, positions + vectors[kinds(torch.arange(36))], positions)
    choices = torch.stack([decoder.laid_out(memory, keep, positions + vector, positions) for vector in vectors])
    theirs = torch.from_numpy(np.asarray(brainfm.outputs["decoder_input_full"]))
    if theirs.ndim == 1:  # thinned: of every 4th number, twelve of each token
        flat = choices.reshape(3, -1)[:, :: -(-own.numel() // len(theirs))]
        step = flat.shape[1] / hidden.numel()
        assert step == int(step)
        distance = (flat - theirs).abs().unflatten(1, (2, 36, int(step))).amax(3)
    else:
        distance = (choices - theirs).abs().amax(3)
    assert float(distance.min(0).values.max()) < 1e-4, "each token is given one of the three sequences' vectors"
    chosen = distance.argmin(0)
    right = chosen == kinds(torch.arange(36)).expand(2, -1)
    assert 0.3 < float((~right)[hidden].float().mean()) < 0.6, "departure 12: another sequence's"
    assert float((own - choices.gather(0, chosen[None, :, :, None].expand(1, -1, -1, 48))[0])[~hidden | right].abs().max()) == 0
    given = choices.gather(0, chosen[None, :, :, None].expand(1, -1, -1, 48))[0]
    brainfm.check("decoder_input_full", given)
    found: Tensor = decoder.decode(given, memory)
    brainfm.check("reconstruction_full", found)
    return found


@pytest.mark.parametrize("sample", [0, 1])
@torch.no_grad()
def test_decoder_of_a_padded_batch(model: BrainFMPretrain, brainfm: Reference, sample: int) -> None:
    """Theirs masks what is padded out of attention, ours leaves it out: the same for the tokens that there are."""
    names = ("decoder_input_padded", "memory_padded", "reconstruction_padded")
    given, memory, wanted = (torch.from_numpy(np.asarray(brainfm.outputs[name])) for name in names)
    if given.ndim == 1:
        pytest.skip("which token a thinned number is of cannot be told: in the full arrays only")
    there = brainfm.inputs["present_padded"][sample].repeat_interleave(TOKENS)
    found = model.decoder.decode(given[sample : sample + 1, there], memory[sample : sample + 1])[0]
    assert float((found - wanted[sample, there]).abs().max()) < 1e-4 * float(wanted.abs().max())


@torch.no_grad()
def test_the_decoders_mlps_are_relu(model: BrainFMPretrain, brainfm: Reference) -> None:
    mlp = model.decoder.layers[0].mlp
    assert isinstance(mlp.linear1, torch.nn.Linear)
    brainfm.check("decoder_layer_hidden", mlp.fn(mlp.linear1(brainfm.inputs["modality_vectors"])))


def test_variance_covariance_and_their_weights(brainfm: Reference) -> None:
    tokens = brainfm.inputs["variance_tokens"]
    brainfm.check("variance_covariance", torch.stack([variance_term(tokens, biased=True), covariance_term(tokens)]))
    weights = [regularisation_weights(step / 139_000, "dev") for step in brainfm.inputs["steps"].tolist()]
    brainfm.check("term_weights", np.array(weights), exact=True)
