"""The frame around the pages: header, navigation, theme; a page is built when it is first looked at."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import panel as pn
from bokeh.events import ConnectionLost
from bokeh.models import CustomJS

from app.headers import PLACE_OF_NONCE
from app.state import PAGES, AppState
from app.store import Store
from workbench.views.panes import Notice

_HERE = Path(__file__).parent
_BUTTON_STYLE = """
.bk-btn.bk-btn, .bk-btn-group .bk-btn.bk-btn {
  background: transparent; border: none; border-radius: 6px; color: var(--wb-text); box-shadow: none;
  font: 500 14px var(--wb-font); padding: 6px var(--wb-pad, 14px);
}
.bk-btn-group { gap: 4px; }
.bk-btn.bk-btn:hover { background: var(--wb-line); }
.bk-btn.bk-btn:focus-visible { outline: 2px solid var(--wb-accent); }
.bk-btn-group .bk-btn.bk-btn.bk-active { background: var(--wb-accent); color: #fff; }
"""
_TOGGLE = """
const url = new URL(window.location.href);
if (target === "dark") { url.searchParams.set("theme", "dark"); } else { url.searchParams.delete("theme"); }
window.location.href = url.href;
"""
_COME_BACK = """
const note = document.getElementById("wb-lost");
if (!note.hidden) { return; }
note.hidden = false;
const look = async () => {
  try {
    const answer = await fetch(window.location.href, {method: "HEAD", cache: "no-store"});
    if (answer.status < 500) { window.location.reload(); return; }
  } catch (error) { /* the server is still away */ }
  setTimeout(look, 2000);
};
setTimeout(look, 1000);
"""
"""Opens the address again, which holds the whole view, as soon as the server answers. Not Bokeh's own reconnection: it wants the
old session, which a server that was started again does not have, and which ends soon after its websocket."""


class Shell(pn.viewable.Viewer):
    """Header, navigation and the page that the state names.

    Args:
        state: the session's state; bound to the address here, once.
        store: where runs are read from.
    """

    def __init__(self, state: AppState, store: Store) -> None:
        super().__init__()
        self.state, self.store = state, store
        self._pages: dict[str, Any] = {}
        state.bind(pn.state.location)
        pn.config.theme = "dark" if state.theme == "dark" else "default"  # type: ignore[misc]
        self.body = pn.Column(sizing_mode="stretch_width", margin=0)
        self.message = Notice(margin=(0, 0, 12, 0))
        self.nav = pn.widgets.RadioButtonGroup(
            options={page.title: key for key, page in PAGES.items()}, value=state.page, margin=0, stylesheets=[_BUTTON_STYLE]
        )
        target = "light" if state.theme == "dark" else "dark"
        self.theme = pn.widgets.Button(label=f"{target.capitalize()} theme", margin=0, stylesheets=[_BUTTON_STYLE])
        self.theme.js_on_click(code=f'const target = "{target}";{_TOGGLE}')
        self.nav.param.watch(lambda event: setattr(state, "page", event.new), "value")
        state.param.watch(lambda event: setattr(self.nav, "value", event.new), "page")
        state.param.watch(self._show_page, "page")
        state.param.watch(self._show_message, "message")
        self._show_page()
        self._show_message()

    def page(self, key: str) -> Any:
        """The page of this key, built on the first call. A page that cannot be built is an alert; the others live on."""
        if key not in self._pages:
            module, name = PAGES[key].viewer.split(":")
            try:
                self._pages[key] = getattr(importlib.import_module(module), name)(self.state, self.store)
            except Exception as error:  # one page's fault must not take the whole session down
                logging.getLogger("app").exception("the page %s cannot be built", key)
                return Notice(f"The page {PAGES[key].title} cannot be shown: {error}", "danger")
        return self._pages[key]

    def _show_page(self, *_: object) -> None:
        self.body[:] = [self.page(self.state.page)]

    def _show_message(self, *_: object) -> None:
        self.message.say(self.state.message)

    def __panel__(self) -> Any:
        return pn.Column(self.nav, self.message, self.body, sizing_mode="stretch_width")

    def serve(self) -> None:
        """Lay the shell out on the page of this session."""
        template = pn.Template(
            (_HERE / "page.html").read_text(encoding="utf-8"),
            items={"nav": self.nav, "theme": self.theme, "message": self.message, "body": self.body},
            location=True,
        )
        template.add_variable("style", (_HERE / "style.css").read_text(encoding="utf-8"))
        template.add_variable("frame_class", "wb-dark" if self.state.theme == "dark" else "wb-light")
        template.add_variable("nonce", PLACE_OF_NONCE)
        template.add_variable("title", "Brain MRI Workbench")
        template.servable(title="Brain MRI Workbench")
        if pn.state.curdoc is not None:
            pn.state.curdoc.js_on_event(ConnectionLost, CustomJS(code=_COME_BACK))
