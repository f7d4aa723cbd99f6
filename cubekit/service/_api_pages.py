"""The page and its files, and a page about the API: read once, sent from memory."""

from __future__ import annotations

import html
import json
import mimetypes
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cubekit.service._api_answer import Answer, tag_of

PAGES = Path(__file__).parent / "pages"
"""Where the built page is."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may load: its own files, and images that it makes itself, as MapLibre's CSP build does."""

_HASHED = re.compile(r"[.-][0-9A-Za-z_-]{8,}\.(js|mjs|css|woff2|png|svg|webp|json|pbf)$")
_DIGIT = re.compile(r"[.-](?=[0-9A-Za-z_-]*\d)[0-9A-Za-z_-]{8,}\.\w+$")
_SOURCES = ("src", "node_modules")
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".webmanifest": "application/manifest+json"}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;"
    "background:#fff}code,pre{font-family:ui-monospace,monospace}h2{margin:2rem 0 .2rem;font-size:1.1rem}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;"
    "border-top:1px solid #ddd}@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}"
    "td,th{border-color:#444}a{color:#8ab4f8}}"
)


def page_files(folder: Path = PAGES) -> dict[str, Answer]:
    """All files of the page, by their addresses; none where it isn't built.

    Notes
    -----
    What has a hash in its name never changes, and is kept by browsers for a year; all else is asked for again, and
    answered with 304.
    """
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        place = path.relative_to(folder)
        if path.is_file() and place.parts[0] not in _SOURCES and not any(part.startswith(".") for part in place.parts):
            address = f"/{place.as_posix()}"
            found["/" if address == "/index.html" else address] = _file(path)
    return found


def _file(path: Path) -> Answer:
    body = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind = f"{kind}; charset=utf-8"
    headers = {"content-security-policy": POLICY}
    if _HASHED.search(path.name) and _DIGIT.search(path.name):
        headers["cache-control"] = "public, max-age=31536000, immutable"
    return Answer(body, kind, tag=tag_of(body.hex()), headers=headers, route="/{page}")


def about_api(document: Mapping[str, Any]) -> dict[str, Answer]:
    """The description of the API for programs and for people: its script-free page needs nobody's server."""
    text = json.dumps(document, separators=(",", ":")).encode()
    policy = f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; base-uri 'none'; frame-ancestors 'none'"
    page = "".join(_written(document)).encode()
    safe = {"content-security-policy": policy}
    return {
        "/openapi.json": Answer(text, "application/json", tag=tag_of(text), route="/openapi.json"),
        "/docs": Answer(page, "text/html; charset=utf-8", tag=tag_of(page), headers=safe, route="/docs"),
    }


def _digest(text: str) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _written(document: Mapping[str, Any]) -> Iterator[str]:
    title = html.escape(f"{document['info']['title']} {document['info']['version']}")
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
    yield f"<main><h1>{title}</h1><p>{html.escape(document['info'].get('description', ''))}</p>"
    yield '<p>For programs: <a href="/openapi.json">openapi.json</a>. The page: <a href="/">/</a>.</p>'
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            yield f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
            yield f"<p>{html.escape(one.get('description') or one.get('summary', ''))}</p>"
            rows = [*map(_parameter, one.get("parameters", ()))]
            rows += [(status, html.escape(told["description"])) for status, told in one["responses"].items()]
            yield "<table>" + "".join(f'<tr><th scope="row">{a}</th><td>{b}</td></tr>' for a, b in rows) + "</table>"
    yield "</main></body></html>"


def _parameter(one: Mapping[str, Any]) -> tuple[str, str]:
    kinds = one["schema"].get("anyOf", [one["schema"]])
    words = []
    for kind in kinds:
        if "enum" in kind:
            words.append(" | ".join(map(str, kind["enum"])))
        elif kind.get("type") != "null":
            bounds = f" {kind['minimum']} to {kind['maximum']}" if "minimum" in kind and "maximum" in kind else ""
            words.append(f"{kind.get('type', '')}{bounds}")
    if one["schema"].get("default") is not None:
        words.append(f"by default {one['schema']['default']}")
    about = f"{one.get('description', '')} ({', '.join(words)})"
    return f"<code>{html.escape(one['name'])}</code> in {one['in']}", html.escape(about)
