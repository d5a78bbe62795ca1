"""A stand-in for W&B's server that accepts runs and their data, or hangs."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUN = {
    "id": "1", "displayName": "n", "config": "{}", "sweepName": None, "historyLineCount": 0,
    "project": {"id": "2", "name": "p", "entity": {"id": "3", "name": "e"}},
}  # fmt: skip
PROJECT = {
    "id": "2", "name": "p", "entityName": "e", "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None,
}  # fmt: skip
# Response to every GraphQL query of wandb 0.31.
DATA = {
    "model": {"bucket": None}, "entity": None,
    "viewer": {"id": "4", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}},
    "models": {"edges": [{"node": PROJECT, "cursor": "1"}], "pageInfo": {"endCursor": "1", "hasNextPage": False}},
    "serverInfo": {"features": []}, "createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []},
}  # fmt: skip


class Server:
    """An HTTP server on a free local port; a context manager.

    Attributes:
        url: Its base URL.
        status: HTTP status of its answers to GET, which probes use.
        hang: Whether it answers no request.
        hang_posts: Whether it answers GET only.
        received: Bytes of records received.
        views: Variables of the requests that save a view.
    """

    def __init__(self) -> None:
        self.status, self.hang, self.hang_posts, self.received = 200, False, False, 0
        self.views: list[dict[str, Any]] = []
        self._over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer({}, server.status, hang=server.hang)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asks = self.path.endswith("graphql")
                asked = json.loads(body) if asks else {}
                variables = asked.get("variables") or {}
                name = variables.get("name")  # the run id, which the answer must repeat
                data = DATA | {"upsertBucket": {"bucket": RUN | {"name": name}, "inserted": True}}
                view = variables | {"id": "VmlldzoxMg==", "project": PROJECT}
                data["upsertView"] = {"view": view, "inserted": True}
                if "upsertView" in asked.get("query", ""):
                    server.views.append(variables)
                self._answer({"data": data} if asks else {}, 200, hang=server.hang or server.hang_posts)
                server.received += 0 if asks else len(body)

            def _answer(self, content: Any, status: int, *, hang: bool) -> None:
                if hang:
                    server._over.wait()
                    return
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *unused: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse all further connections."""
        if not self._over.is_set():
            self._over.set()
            self._http.shutdown()
            self._http.server_close()
