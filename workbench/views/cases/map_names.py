"""Names of explanation maps as a reader meets them: on overlays, in figures and in tables."""

from __future__ import annotations

from workbench.contracts import MODALITY_TITLES

_OWN = {
    "gate": "Tumour gate",
    "pooling": "Attention pooling (1 = mean)",
    "cmd_attention": "T2-FLAIR attention (CMD)",
}
_TARGETS = {"tumour": "tumour", "idh": "IDH", "codel": "1p/19q", "tert": "TERT", "mgmt": "MGMT", "grade": "grade"}
_OF_SEQUENCES = {"weight": "Weight of", "keep": "Tokens kept of"}
_FORMS = {"gradcam": "Grad-CAM", "gradcampp": "Grad-CAM++"}


def map_title(key: str) -> str:
    """The title of a map by the name in its file.

    >>> map_title("gradcampp_codel"), map_title("gradcam_idh_open"), map_title("weight_t1c"), map_title("keep_t1c")
    ('Grad-CAM++ 1p/19q', 'Grad-CAM IDH, gate open', 'Weight of T1c', 'Tokens kept of T1c')
    """
    form, _, target = key.partition("_")
    if form in _FORMS and target:
        target, opened = target.removesuffix("_open"), target.endswith("_open")
        return f"{_FORMS[form]} {_TARGETS.get(target, target)}" + (", gate open" if opened else "")
    if form in _OF_SEQUENCES and target:
        return f"{_OF_SEQUENCES[form]} {MODALITY_TITLES.get(target, target)}"
    own = key.removesuffix("_open")
    return _OWN.get(own, own.replace("_", " ")) + (", gate open" if own != key else "")


def map_order(key: str) -> tuple[int, str]:
    """Sort key: Grad-CAM, Grad-CAM++, the method's own maps, weights of sequences."""
    form = key.partition("_")[0]
    return {"gradcam": 0, "gradcampp": 1, "weight": 3}.get(form, 2), key
