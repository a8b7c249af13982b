"""What every answer of the server says to the browser: this host only, no guessing, no framing, no referrer."""

from __future__ import annotations

import secrets

PLACE_OF_NONCE = secrets.token_urlsafe(24)
"""What the page's template writes where an answer's nonce belongs. A document may be shown by more than one answer, so the nonce
is put in when an answer leaves (`door.Guarded.write`). Nobody outside the process knows it, so nothing foreign gets a nonce."""


def security_headers(host: str, nonce: str, *, encrypted: bool = False) -> dict[str, str]:
    """The headers of one answer.

    Scripts run from this host's files or with the nonce, never from an attribute or a tag that was smuggled into the page.
    BokehJS makes functions of the code that our own Python sends (`CustomJS`: `new Function`), hence 'unsafe-eval'; Panel imports
    its components' modules from `blob:`, and Bokeh sets styles in place, hence inline style.

    Args:
        host: the request's Host header, already allowed; '' where it was refused.
        nonce: fresh for each answer.
        encrypted: the answer goes over https.
    """
    sockets = f" ws://{host} wss://{host}" if host else ""  # 'self' does not cover them in every browser
    policy = {
        "default-src": "'none'",
        "script-src": f"'self' 'nonce-{nonce}' 'unsafe-eval' blob:",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": f"'self' data: blob:{sockets}",
        "worker-src": "'self' blob:",
        "frame-src": "'none'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "X-Robots-Tag": "noindex",
        "Server": "workbench",
    }
    return headers | ({"Strict-Transport-Security": "max-age=31536000"} if encrypted else {})
