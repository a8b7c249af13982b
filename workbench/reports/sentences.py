"""Sentences of a notebook as Markdown, in which names from outside stay text."""

from __future__ import annotations

import re

from IPython.display import Markdown

from workbench.text import visible

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ADDRESS = re.compile(r":(?=//)")
_LINK = re.compile(r"\](?=[(\[:])")


def sentences(text: str) -> Markdown:
    """Markdown with emphasis, lists and code, and with neither HTML nor links nor pictures.

    Names of cases, cohorts and runs, notes and errors stand in these sentences: what looks like markup in them is shown.
    """
    shown = "\n".join(visible(line) for line in text.split("\n"))
    for pattern, entity in ((_TAG, "&lt;"), (_LINK, "&#93;"), (_ADDRESS, "&#58;")):
        shown = pattern.sub(entity, shown)
    return Markdown(shown)
