"""What `panel serve app` runs, once per session."""

import logging

import panel as pn
from panel.io.resources import get_dist_path

from app import door
from app.shell import Shell
from app.state import AppState
from app.store import shared_store
from workbench.views.panes import TextPane

WITHOUT_DOOR = (
    "Start the dashboard by its folder, `panel serve app`, or with `workbench app`: only then does it know who may see it."
)
pn.extension("tabulator", design="bootstrap", notifications=False)
# Panel says where its own style sheets lie while it renders a page. With `--num-procs` the page's websocket may reach another
# process, which builds the session without rendering it, and Panel then falls back to its CDN: patient data stays in the house.
if pn.state.curdoc is not None:
    pn.state.curdoc.template_variables["dist_url"] = get_dist_path()
if pn.state.curdoc is not None and not door.installed():  # e.g. `panel serve app/main.py`, which knows no server_lifecycle.py
    logging.getLogger("app").error("nothing is shown: this server has no door. %s", WITHOUT_DOOR)
    TextPane(WITHOUT_DOOR).servable(title="Brain MRI Workbench")
else:
    Shell(AppState(), shared_store()).serve()
