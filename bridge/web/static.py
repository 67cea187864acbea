"""``/`` and the files of the live page: public, because they hold no data; what the page shows needs a token.

The policy lets the page run its own scripts and talk to its own origin, and nothing else; Trusted Types make a browser
refuse every way to turn text into markup, so nothing that a server says can become a part of the page.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import ETag, web

FILES = Path(__file__).parent / "page"
#: Where ``/`` finds them, relative, so that the page works below any prefix.
FOLDER = "page"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked for at each use: an update of the bridge shows at once
}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class PageFace:
    """The handler of ``/`` and of the page's files, which are read once."""

    def __init__(self) -> None:
        self._files = {file.name: _File(file) for file in FILES.iterdir() if file.suffix in TYPES}
        self._index = self._files.pop("index.html")

    @property
    def paths(self) -> frozenset[str]:
        """What is public."""
        return frozenset({"/", *(f"/{FOLDER}/{name}" for name in self._files)})

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/", self.get), web.get(f"/{FOLDER}/{{file}}", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """Answer with a file, or 304 for who has it."""
        name = request.match_info.get("file")
        file = self._index if name is None else self._files.get(name)
        if file is None:
            raise web.HTTPNotFound
        known = request.if_none_match or ()
        is_known = any(tag.value in (file.etag.value, "*") for tag in known)
        response = web.Response(status=304, headers=HEADERS) if is_known else file.answer()
        response.etag = file.etag
        return response


class _File:
    """One file of the page."""

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        self._type = TYPES[path.suffix]
        self.etag = ETag(hashlib.sha256(self._body).hexdigest()[:32])

    def answer(self) -> web.Response:
        return web.Response(body=self._body, content_type=self._type, charset="utf-8", headers=HEADERS)
