"""What `panel serve app` runs, once per session."""

import panel as pn

from app.shell import Shell
from app.state import AppState
from app.store import shared_store

pn.extension("tabulator", design="bootstrap", notifications=False)
Shell(AppState(), shared_store()).serve()
