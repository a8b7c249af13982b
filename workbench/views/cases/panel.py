"""The picture side of the Cases page: the volume viewer (or its stand-in) with its controls and legend, for one case."""

from __future__ import annotations

from typing import Any

import panel as pn
import param

from workbench.contracts import MODALITY_TITLES
from workbench.errors import WorkbenchError
from workbench.views.cases.legend import legend_html
from workbench.views.cases.niivue import LAYOUTS, NiiVueViewer
from workbench.views.cases.ortho import OrthoView
from workbench.views.cases.view import DISAGREEMENT, NONE, PREDICTION, TRUTH, CaseView, Overlay
from workbench.views.panes import Notice, TextPane

OPACITY_STEP = 0.1
_PREFERRED = ("t1c", "flair", "t2", "t1")
_HEIGHT = "clamp(420px, calc(100vh - 270px), 1000px)"


class CasePanel(pn.viewable.Viewer):
    """Shows a `CaseView`: modality, window, overlay with opacity and outline, layout, crosshair.

    What the reader wishes (`modality`, `overlay`, `region`, `position`) is kept from case to case; where a case has not got
    it, the nearest thing is shown and the wish stays. Opacity, window, outline and layout are changed in the browser: no
    volume is sent again for them.

    Args:
        viewer_problem: why the volume viewer cannot be had; empty = it can.
    """

    modality = param.String(default="", doc="wished modality; '' = contrast-enhanced T1, else FLAIR, else the first")
    overlay = param.String(default="", doc="wished overlay, a key of `CaseView.overlay_names`; '' = prediction, else truth")
    region = param.String(default="WT", doc="region whose disagreement is drawn")
    position = param.List(default=[], doc="crosshair in mm, RAS+; empty = the middle of the lesion")

    def __init__(self, viewer_problem: str = "", **params: Any) -> None:
        super().__init__(**params)
        self.view: CaseView | None = None
        self._shown = {"modality": "", "overlay": NONE}
        self._before_hiding = ""
        self._quiet = False
        self.viewer = NiiVueViewer(sizing_mode="stretch_width", margin=0, styles={"--workbench-viewer-height": _HEIGHT})
        self.ortho: OrthoView | None = None
        self.stage = pn.Column(self.viewer, sizing_mode="stretch_width", margin=0)
        self.notice = Notice()
        self.legend = TextPane("", sizing_mode="stretch_width", margin=(2, 0))
        self._make_widgets()
        self.viewer.param.watch(lambda event: self._viewer_says(event.new), "status")
        self.viewer.param.watch(self._moved, "position")
        self.viewer.param.watch(self._windowed, "window")
        self.param.watch(self._wish_changed, ["modality", "overlay", "region"])
        self.param.watch(self._position_changed, "position")
        if viewer_problem:
            self.use_stand_in(viewer_problem)

    def _make_widgets(self) -> None:
        v = self.viewer
        self.modality_choice = pn.widgets.RadioButtonGroup(options=[], margin=(0, 8, 0, 0))
        self.overlay_choice = pn.widgets.Select(label="Overlay", options={"No overlay": NONE}, width=172, margin=(0, 8, 0, 0))
        self.region_choice = pn.widgets.Select(label="Region", options=["WT"], width=76, visible=False, margin=(0, 8, 0, 0))
        self.opacity = pn.widgets.FloatSlider.from_param(
            v.param.opacity, label="Opacity", step=0.05, width=100, margin=(0, 14, 0, 0)
        )
        self.outline = pn.widgets.Checkbox.from_param(v.param.outline, label="Outline", margin=(20, 8, 0, 0))
        self.layout_choice = pn.widgets.Select(label="Layout", options=LAYOUTS, value=v.layout, width=152, margin=(0, 8, 0, 0))
        self.layout_choice.link(v, value="layout")
        self.window = pn.widgets.RangeSlider(label="Window", start=0, end=1, value=(0, 1), width=150, margin=(0, 10, 0, 4))
        self.reset = pn.widgets.Button(label="Reset", margin=(16, 0, 0, 0), width=66)
        self.modality_choice.param.watch(lambda event: self._wish("modality", event.new), "value")
        self.overlay_choice.param.watch(lambda event: self._wish("overlay", event.new), "value")
        self.region_choice.param.watch(lambda event: self._wish("region", event.new), "value")
        self.window.param.watch(self._window_chosen, "value")
        self.reset.on_click(lambda _: self.reset_view())
        row = {"sizing_mode": "stretch_width", "align_items": "center", "margin": (0, 0, 6, 0)}
        self.controls = pn.FlexBox(
            self.modality_choice, self.overlay_choice, self.region_choice, self.opacity, self.outline, self.window,
            self.layout_choice, self.reset, **row,
        )  # fmt: skip

    def __panel__(self) -> Any:
        return pn.Column(self.notice, self.controls, self.stage, self.legend, sizing_mode="stretch_width", margin=0)

    # -- what is shown ---------------------------------------------------------------------------------------------------

    def show_case(self, view: CaseView | None, position: list[float] | None = None, **wishes: str) -> None:
        """Show another case, at a position in mm or at the middle of its lesion. What cannot be read is said in `problem`.

        Args:
            view: the case; None clears the picture.
            position: the crosshair; None or empty = the middle of the lesion.
            wishes: new values of `modality`, `overlay` and `region`.
        """
        self.view = None  # so that the changes below send nothing yet
        self.param.update(position=position or [], **wishes)
        self.view = view
        self._refresh(case_changed=True)

    @property
    def shown_modality(self) -> str:
        """The modality on the screen; '' where there is none."""
        return self._shown["modality"]

    @property
    def shown_overlay(self) -> str:
        """The overlay on the screen, a key of `CaseView.overlay_names`."""
        return self._shown["overlay"]

    @property
    def problem(self) -> str:
        """What is said above the picture because something could not be shown; empty where all is well."""
        return str(self.notice.object) if self.notice.visible else ""

    def toggle_overlay(self) -> None:
        """Hide the overlay, or bring back the one that was hidden."""
        if self.shown_overlay == NONE:
            self.overlay = self._before_hiding
        else:
            self._before_hiding = self.overlay
            self.overlay = NONE

    def change_opacity(self, steps: int) -> None:
        """Make the overlay more (1) or less (-1) opaque."""
        self.viewer.opacity = min(1.0, max(0.0, round(self.viewer.opacity + steps * OPACITY_STEP, 2)))

    def choose_modality(self, number: int) -> None:
        """Show the case's modality of this place, counted from 1; nothing where it has fewer."""
        if self.view is not None and 1 <= number <= len(self.view.modalities):
            self.modality = self.view.modalities[number - 1]

    def reset_view(self) -> None:
        """Window and position as they are when a case is opened."""
        if self.view is not None and self.shown_modality:
            self.viewer.window = list(self.view.image(self.shown_modality).window)
            self.position = []

    def use_stand_in(self, reason: str) -> None:
        """Show three HoloViews planes instead of the volume viewer, and say why."""
        if self.ortho is None:
            self.ortho = OrthoView(window=self.viewer.window, opacity=self.viewer.opacity, position=self.viewer.position)
            self.ortho.param.watch(self._moved, "position")
            for name in ("window", "opacity", "outline"):
                self.viewer.param.watch(self._pass_on, name)
            self.stage[:] = [self.ortho]
            self.layout_choice.visible = False
        self._stand_in_reason = reason
        self._refresh()

    def _pass_on(self, event: Any) -> None:
        if self.ortho is not None:
            self.ortho.param.update(**{event.name: event.new})

    _stand_in_reason = ""

    def _viewer_says(self, status: str) -> None:
        if status.startswith("failed: "):
            self.use_stand_in(status.removeprefix("failed: "))

    def _wish(self, name: str, value: Any) -> None:
        if not self._quiet and value:
            setattr(self, name, value)

    def _wish_changed(self, *_: Any) -> None:
        if self.view is not None:
            self._refresh()

    def _pick_modality(self, view: CaseView) -> str:
        wishes = [self.modality, *_PREFERRED, *view.modalities]
        return next((name for name in wishes if name in view.modalities), "")

    def _pick_overlay(self, names: dict[str, str]) -> str:
        wishes = [self.overlay] if self.overlay == NONE else [self.overlay, PREDICTION, TRUTH]
        return next((key for key in wishes if key in names.values()), NONE)

    def _refresh(self, case_changed: bool = False) -> None:
        view = self.view
        if view is None or not view.modalities:
            self._shown = {"modality": "", "overlay": NONE}
            self.viewer.param.update(image=b"", overlay=b"", labels=[])
            self._say("" if view is None else f"Case {view.case} has no image.")
            self.legend.object = ""
            return
        names = view.overlay_names()
        chosen, key = self._pick_modality(view), self._pick_overlay(names)
        problem = ""
        try:
            display = view.image(chosen)
            try:
                overlay = view.overlay(key, self.region)
            except WorkbenchError as error:
                overlay, key, problem = None, NONE, f"The overlay cannot be shown: {error}"
            position = [round(v, 1) for v in (self.position or view.centre())]
        except WorkbenchError as error:
            self._shown = {"modality": "", "overlay": NONE}
            self.viewer.param.update(image=b"", overlay=b"", labels=[])
            self._say(f"This case cannot be shown: {error}", "danger")
            return
        new_image = case_changed or chosen != self.shown_modality
        self._shown = {"modality": chosen, "overlay": key}
        self._set_choices(view, names, new_image)
        self._send(view, key, overlay, display.window if new_image else None, position)
        self.legend.object = legend_html(overlay, names, key)
        if self._stand_in_reason and not problem:
            problem = f"Three planes instead of the volume viewer: {self._stand_in_reason}."
        self._say(problem)

    def _set_choices(self, view: CaseView, names: dict[str, str], new_image: bool) -> None:
        self._quiet = True
        try:
            titles = {MODALITY_TITLES.get(name, name): name for name in view.modalities}
            self.modality_choice.param.update(options=titles, value=self.shown_modality)
            self.overlay_choice.param.update(options=names, value=self.shown_overlay)
            region = self.region if self.region in view.regions else view.regions[0]
            self.region_choice.param.update(
                options=list(view.regions), value=region, visible=self.shown_overlay == DISAGREEMENT and len(view.regions) > 1
            )
            if new_image:
                display = view.image(self.shown_modality)
                end = display.low + 255 * display.step
                self.window.param.update(
                    start=display.low,
                    end=end,
                    step=(end - display.low) / 200,
                    value=display.window,
                )
        finally:
            self._quiet = False

    def _send(
        self, view: CaseView, key: str, overlay: Overlay | None, window: tuple[float, float] | None, position: list[float]
    ) -> None:
        title = MODALITY_TITLES.get(self.shown_modality, self.shown_modality)
        changes: dict[str, Any] = {"image_name": title, "position": position}
        if window is not None:
            changes["window"] = list(window)
        if self.ortho is not None:
            self.viewer.param.update(**changes)
            self.ortho.param.update(display=view.image(self.shown_modality), overlay=overlay, position=position)
            return
        changes["image"] = view.image_nifti(self.shown_modality)
        changes["overlay"] = view.overlay_nifti(key, self.region)
        changes["labels"] = [colour.as_dict() for colour in overlay.colours] if overlay else []
        if overlay is not None and overlay.is_map:
            changes |= {"map_range": list(overlay.range), "overlay_name": overlay.name}
        self.viewer.param.update(**changes)

    def _say(self, text: str, kind: str = "warning") -> None:
        self.notice.say(text, kind)

    # -- what comes back -------------------------------------------------------------------------------------------------

    def _moved(self, event: Any) -> None:
        if self.view is not None and event.new and list(event.new) != self.position:
            centre = [round(v, 1) for v in self.view.centre()] if not self.position else self.position
            if list(event.new) != centre:
                self.position = list(event.new)

    def _position_changed(self, *_: Any) -> None:
        if self.view is None or not self.shown_modality:
            return
        position = [round(v, 1) for v in (self.position or self.view.centre())]
        self.viewer.position = position
        if self.ortho is not None:
            self.ortho.position = position

    def _window_chosen(self, event: Any) -> None:
        if not self._quiet:
            self.viewer.window = list(event.new)

    def _windowed(self, event: Any) -> None:
        low, high = (min(max(v, self.window.start), self.window.end) for v in event.new)
        self._quiet = True
        try:
            self.window.value = (low, high)
        finally:
            self._quiet = False
