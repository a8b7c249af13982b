"""What `panel serve app` runs, once per session."""

import panel as pn
from panel.io.resources import get_dist_path

from app.shell import Shell
from app.state import AppState
from app.store import shared_store

pn.extension("tabulator", design="bootstrap", notifications=False)
# Panel says where its own style sheets lie while it renders a page. With `--num-procs` the page's websocket may reach another
# process, which builds the session without rendering it, and Panel then falls back to its CDN: patient data stays in the house.
if pn.state.curdoc is not None:
    pn.state.curdoc.template_variables["dist_url"] = get_dist_path()
Shell(AppState(), shared_store()).serve()
