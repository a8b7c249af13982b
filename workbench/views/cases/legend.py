"""What the colours of an overlay mean, as HTML: the same line under the dashboard's viewer and the notebook's."""

from __future__ import annotations

import html

from workbench.views.cases.view import Overlay


def legend_html(overlay: Overlay | None, names: dict[str, str], key: str) -> str:
    """The overlay's colours and what they mean."""
    if overlay is None:
        return '<span style="opacity:.75">No overlay</span>'
    title = next((title for title, value in names.items() if value == key), key)
    parts = [f"<b>{html.escape(title)}</b>"]
    swatch = "display:inline-block;width:12px;height:12px;border-radius:2px;margin:0 5px 0 14px;vertical-align:-1px;background:"
    if overlay.is_map:
        low, high = overlay.range
        gradient = "linear-gradient(90deg,#0d0887,#7e03a8,#cc4778,#f89540,#f0f921)"
        parts.append(
            f'{low:.3g} <span style="{swatch}{gradient};width:120px;margin-left:4px"></span> {high:.3g} (below: not drawn)'
        )
    parts += [f'<span style="{swatch}{c.hexadecimal}"></span>{html.escape(c.name)}' for c in overlay.colours]
    return '<div style="font-size:13px;line-height:1.6">' + " ".join(parts) + "</div>"
