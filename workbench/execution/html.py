"""The executed notebook as one HTML file that loads nothing from another host, equations included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from workbench.files import write_text
from workbench.records.run_folder import RunFolder

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; form-action 'none'; base-uri 'none'"
"""What a browser may do for a report: draw what is in it. No script runs, nothing is fetched, whatever an output holds."""

TEMPLATE = f"""{{%- extends 'index.html.j2' -%}}
{{%- block html_head_js -%}}<meta http-equiv="Content-Security-Policy" content="{POLICY}" />{{%- endblock -%}}
{{%- block jupyter_widgets -%}}{{%- endblock -%}}
{{%- block html_head_js_mathjax -%}}{{%- endblock -%}}
{{%- block html_head_js_mermaidjs -%}}{{%- endblock -%}}
{{%- block footer -%}}</html>{{%- endblock -%}}
"""
"""nbconvert's page without its scripts: those name hosts that would serve them, and none is needed."""


class MathMLRenderer(IPythonRenderer):
    """Markdown with its equations as MathML, which browsers draw by themselves: MathJax would have to be fetched."""

    def inline_math(self, body: str) -> str:
        """An equation within a line; one that cannot be read stands as it was written."""
        try:
            return str(convert(body))
        except Exception:  # latex2mathml's errors share no class
            return str(super().inline_math(body))

    def block_math(self, body: str) -> str:
        """An equation on lines of its own."""
        try:
            return str(convert(body, display="block"))
        except Exception:
            return str(super().block_math(body))


class ReportExporter(HTMLExporter):
    """nbconvert's HTML without code cells, scripts of other hosts and MathJax."""

    def __init__(self, **options: Any) -> None:
        super().__init__(exclude_input=True, **options)
        self.raw_template = TEMPLATE

    @jinja2.pass_context
    def markdown2html(self, context: jinja2.runtime.Context, source: str) -> str:
        """The filter that the template calls for each piece of Markdown."""
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = MathMLRenderer(escape=False, attachments=attachments, embed_images=self.embed_images)
        return str(MarkdownWithMath(renderer=renderer).render(source))


def write_report(run: RunFolder) -> Path:
    """Write `report.html` from a run's executed notebook.

    Returns:
        Its path.

    Raises:
        OSError: the notebook is not there.
    """
    notebook = nbformat.read(run.path("notebook.ipynb"), as_version=4)
    notebook.metadata["title"] = f"{run.spec['method']} · {run.spec['cohort']['name']} · {run.spec['run']}"
    body, _ = ReportExporter().from_notebook_node(notebook)
    write_text(run.path("report.html"), body)
    return run.path("report.html")
