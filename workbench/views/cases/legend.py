"""What the colours of an overlay mean, as HTML: the same line under the dashboard's viewer and the notebook's."""

from __future__ import annotations

from workbench.views.cases.view import Overlay
from workbench.views.markup import Html


def legend_html(overlay: Overlay | None, names: dict[str, str], key: str) -> Html:
    """The overlay's colours and what they mean."""
    if overlay is None:
        return Html('<span style="opacity:.75">No overlay</span>')
    title = next((title for title, value in names.items() if value == key), key)
    parts = [Html("<b>{}</b>").format(title)]
    swatch = "display:inline-block;width:12px;height:12px;border-radius:2px;margin:0 5px 0 14px;vertical-align:-1px;background:"
    if overlay.is_map:
        low, high = overlay.range
        gradient = "linear-gradient(90deg,#0d0887,#7e03a8,#cc4778,#f89540,#f0f921)"
        parts.append(
            Html('{:.3g} <span style="{}{};width:120px;margin-left:4px"></span> {:.3g} (below: not drawn)').format(
                low, swatch, gradient, high
            )
        )
    parts += [Html('<span style="{}{}"></span>{}').format(swatch, c.hexadecimal, c.name) for c in overlay.colours]
    return Html('<div style="font-size:13px;line-height:1.6">{}</div>').format(Html(" ").join(parts))
