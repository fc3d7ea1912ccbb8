"""A website of a test's own: pages by their paths, with validators, redirects and errors."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(slots=True)
class Page:
    """What is at a path."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: bool = True
    times: int = 10**9  #: answers after which it is there as usual, with status 200 and without its headers


@dataclass(slots=True)
class Asked:
    """A request."""

    path: str
    headers: Mapping[str, str]
    at: float
    status: int = 0


@dataclass(slots=True)
class Website:
    """A site that changes while it is served."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, text: str | bytes = "", **more: object) -> None:
        self.pages[path] = Page(text.encode() if isinstance(text, str) else text, **more)  # type: ignore[arg-type]

    def sitemap(self, *paths: str, at: str = "/sitemap.xml", kind: str = "urlset", lastmod: str = "") -> None:
        one, when = ("url" if kind == "urlset" else "sitemap"), f"<lastmod>{lastmod}</lastmod>" if lastmod else ""
        urls = "".join(f"<{one}><loc>{path if '://' in path else self.url + path}</loc>{when}</{one}>" for path in paths)
        self.put(at, f'<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</{kind}>')

    def paths(self) -> list[tuple[str, int]]:
        """Paths and status of the requests since the last call."""
        found = [(one.path, one.status) for one in self.asked]
        self.asked.clear()
        return found


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name, such as IP:127.0.0.1 or DNS:host.example, and its key."""
    made = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
         f"subjectAltName={name}", "-out", str(made[0]), "-keyout", str(made[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@contextmanager
def website(certificate: tuple[Path, Path] | None = None) -> Iterator[Website]:
    """Serve a website, by HTTPS with a certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if stopped.is_set():  # on a connection that was open before
                raise ConnectionAbortedError
            asked = Asked(self.path, dict(self.headers.items()), time.monotonic())
            site.asked.append(asked)
            page = site.pages.get(self.path, Page(status=404))
            status, headers, body = page.status, dict(page.headers), page.body
            if page.times <= 0:
                status, headers = 200, {}
            page.times -= 1
            tag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
            if status == 200 and page.etag:
                headers["ETag"] = tag
                if self.headers.get("If-None-Match") == tag:
                    status, body = 304, b""
            asked.status = status
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that has read enough
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site = Website(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    stopped = threading.Event()
    thread.start()
    try:
        yield site
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def html(title: str, text: str) -> str:
    """A page."""
    return f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
