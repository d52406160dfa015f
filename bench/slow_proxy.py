"""A proxy on 127.0.0.1 before an HTTP server: answers come late, or get lost."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# (method, path) to whether the answer is lost.
LoseAnswer = Callable[[str, str], bool]
_OF_ONE_CONNECTION = {"connection", "transfer-encoding", "content-length", "host", "date", "server"}


@contextmanager
def slow_proxy(
    target: str, *, seconds: float = 0.0, lose_answer: LoseAnswer = lambda *_: False
) -> Iterator[str]:
    """Pass requests on to `target`, wait before each answer, and lose some; yields the proxy's URL."""
    address = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            given = self.headers.items()
            headers = {key: value for key, value in given if key.lower() not in _OF_ONE_CONNECTION}
            connection = HTTPConnection(str(address.hostname), address.port or 80, timeout=60)
            try:
                connection.request(self.command, self.path, body=body, headers=headers)
                answer = connection.getresponse()
                content = answer.read()
            except OSError:
                self.close_connection = True
                return
            finally:
                connection.close()
            time.sleep(seconds)
            if lose_answer(self.command, self.path):
                self.close_connection = True
                return
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in _OF_ONE_CONNECTION:
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
