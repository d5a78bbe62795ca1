"""A stand-in on this machine for the part of a Hugging Face hub that uploads use."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_standinforatoken0123456789"


@dataclass
class Hub:
    """A hub with its repositories.

    Attributes:
        files: Content of every file, by repository and name.
        private: Whether a repository was created for its owner alone.
        licences: Licences of models, by repository.
        broken: Paths (or the ends of paths) that are answered with a status, by path.
        tokens: The tokens that requests brought.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(b"")

            def do_POST(self) -> None:
                self.answer(self.body())

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                pieces = []
                while size := int(self.rfile.readline(), 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

            def answer(self, body: bytes) -> None:
                hub.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
                path = self.path.partition("?")[0]
                status, content = next(
                    ((code, {"error": "no"}) for end, code in hub.broken.items() if path.endswith(end)),
                    None,
                ) or hub.reply(path, body)
                said = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *unused: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        repository = f"{owner}/{name}"
        if rest[:1] == ["preupload"]:
            names = [each["path"] for each in json.loads(body)["files"]]
            return 200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
        if rest[:1] == ["commit"]:
            return self.commit(repository, body)
        if repository in self.licences:
            card = {"license": self.licences[repository]}
            return 200, {"id": repository, "sha": "0" * 40, "cardData": card, "siblings": [], "tags": []}
        return 404, {"error": "not found"}

    def create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        repository = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
        if repository in self.files:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{repository}"}
        self.files[repository] = {}
        self.private[repository] = wanted.get("private") or wanted.get("visibility") == "private"
        return 200, {"url": f"{self.url}/{repository}", "name": repository}

    def commit(self, repository: str, body: bytes) -> tuple[int, Any]:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return 200, {"success": True, "commitOid": "1" * 40, "commitUrl": f"{self.url}/{repository}/commit/{'1' * 40}"}
