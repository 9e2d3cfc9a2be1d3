"""A publisher's host for the tests of downloads: files, and answers that fail."""

import base64
import hashlib
import io
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


def picture(form: str = "PNG", size: tuple[int, int] = (40, 20), orientation: int = 1) -> bytes:
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    image.save(data, form, exif=exif)
    return data.getvalue()


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


class Publisher:
    """A host that serves ``files``; ``fail`` may answer in their place, by path and try."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fail: Callable[[Any, str, int], bool] = lambda handler, path, attempt: False
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.md5: dict[str, str] = {}
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                publisher.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.lstrip("/")
        with self._lock:
            self.asked[path] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if not self.fail(handler, path, self.asked[path]):
                self.serve(handler, path)
        except ConnectionError:
            handler.close_connection = True
        finally:
            with self._lock:
                self.at_once -= 1

    def serve(self, handler: BaseHTTPRequestHandler, path: str, stop_at: int | None = None) -> None:
        content = self.files.get(path)
        if content is None:
            handler.send_response(404)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = 0
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        asked = handler.headers.get("Range", "")
        if asked and handler.headers.get("If-Range") == tag:
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.send_header(
            "X-Goog-Hash", f"crc32c=AAAAAA==,md5={self.md5.get(path, md5(content))}"
        )
        handler.end_headers()
        handler.wfile.write(content[start:stop_at])
        if stop_at is not None:
            handler.close_connection = True


def refuse(handler: BaseHTTPRequestHandler, code: int, **headers: str) -> bool:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return True
