#!/usr/bin/env python3
"""A Qdrant server for tests: the calls of Qdrant's REST interface that `faceptor gallery push` and a search make, answered by
Qdrant's own engine (the package qdrant-edge-py), which no registry has as a server.

    server.py FOLDER     prints the port on the loopback interface; keeps the collections below FOLDER, until the end of standard input
"""

import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import qdrant_edge as qdrant

PATH = re.compile(r"/collections/([^/?]+)(/[^?]*)?(?:\?(.*))?")


class Refusal(Exception):
    """An answer with another status than 200."""

    def __init__(self, status, words):
        super().__init__(words)
        self.status = status


def filter_of(request):
    """Returns the engine's filter of a request's `must` and `must_not`."""
    asked = request.get("filter") or {}

    def conditions(name):
        found = [qdrant.FieldCondition(one["key"], match=qdrant.MatchValue(one["match"]["value"])) for one in asked.get(name, [])]
        return found or None

    return qdrant.Filter(must=conditions("must"), must_not=conditions("must_not"))


class Collection:
    """A shard of the engine, and what the REST interface says about it."""

    def __init__(self, folder, request):
        self.vectors = request["vectors"]
        distance = getattr(qdrant.Distance, self.vectors["distance"])
        config = qdrant.EdgeConfig(vectors=qdrant.EdgeVectorParams(size=self.vectors["size"], distance=distance))
        os.makedirs(folder)
        self.shard = qdrant.EdgeShard.create(folder, config)
        self.schema = {}

    def describe(self, _request):
        count = self.shard.count(qdrant.CountRequest(exact=True))
        return {"status": "green", "points_count": count, "config": {"params": {"vectors": self.vectors}}, "payload_schema": self.schema}

    def index(self, request):
        self.shard.update(qdrant.UpdateOperation.create_field_index(request["field_name"], qdrant.PayloadSchemaType.Keyword))
        self.schema[request["field_name"]] = {"data_type": request["field_schema"]}
        return {"operation_id": 0, "status": "completed"}

    def put(self, request):
        points = [qdrant.Point(one["id"], [float(x) for x in one["vector"]], one["payload"]) for one in request["points"]]
        self.shard.update(qdrant.UpdateOperation.upsert_points(points))
        return {"operation_id": 0, "status": "completed"}

    def delete(self, request):
        self.shard.update(qdrant.UpdateOperation.delete_points(request["points"]))
        return {"operation_id": 0, "status": "completed"}

    def count(self, request):
        return {"count": self.shard.count(qdrant.CountRequest(exact=True, filter=filter_of(request)))}

    def scroll(self, request):
        asked = qdrant.ScrollRequest(
            offset=request.get("offset"),
            limit=request["limit"],
            filter=filter_of(request),
            with_payload=request["with_payload"],
            with_vector=request["with_vector"],
        )
        points, following = self.shard.scroll(asked)
        points = [{"id": str(point.id), "payload": point.payload} for point in points]
        return {"points": points, "next_page_offset": following and str(following)}

    def query(self, request):
        parameters = request.get("params") or {}
        asked = qdrant.QueryRequest(
            limit=request["limit"],
            query=qdrant.Query.Nearest([float(x) for x in request["query"]]),
            params=qdrant.SearchParams(exact=parameters.get("exact", False), hnsw_ef=parameters.get("hnsw_ef")),
            with_payload=True,
        )
        found = self.shard.query(asked)
        return {"points": [{"id": str(point.id), "score": point.score, "payload": point.payload} for point in found]}

    def optimize(self, _request):
        """Builds the index (HNSW), which a server does in the background; no call of Qdrant's."""
        optimized = self.shard.optimize()
        return {"optimized": optimized, "indexed_vectors_count": self.shard.info().indexed_vectors_count}


CALLS = {
    ("GET", None): Collection.describe,
    ("PUT", "/index"): Collection.index,
    ("PUT", "/points"): Collection.put,
    ("POST", "/points/delete"): Collection.delete,
    ("POST", "/points/count"): Collection.count,
    ("POST", "/points/scroll"): Collection.scroll,
    ("POST", "/points/query"): Collection.query,
    ("POST", "/optimize"): Collection.optimize,
}


class Handler(BaseHTTPRequestHandler):
    """Answers a call as Qdrant's REST interface does."""

    folder = None
    api_key = os.environ.get("QDRANT_API_KEY")
    collections = {}

    def answer(self):
        if self.api_key and self.headers.get("api-key") != self.api_key:
            raise Refusal(401, "Must provide an API key or an Authorization bearer token")
        found = PATH.fullmatch(self.path)
        if not found:
            raise Refusal(404, "")
        name, below, _ = found.groups()
        length = int(self.headers.get("Content-Length") or 0)
        request = json.loads(self.rfile.read(length) or b"{}")
        if (self.command, below) == ("PUT", None):
            if name in self.collections:
                raise Refusal(409, f"Wrong input: Collection `{name}` already exists!")
            self.collections[name] = Collection(os.path.join(self.folder, str(len(self.collections))), request)
            return True
        if name not in self.collections:
            raise Refusal(404, f"Not found: Collection `{name}` doesn't exist!")
        call = CALLS.get((self.command, below))
        if not call:
            raise Refusal(404, "")
        return call(self.collections[name], request)

    def respond(self):
        try:
            status, content = 200, {"result": self.answer(), "status": "ok", "time": 0.0}
        except Refusal as refusal:
            status, content = refusal.status, {"status": {"error": str(refusal)}, "time": 0.0}
        except Exception as error:  # What the engine refuses.
            status, content = 400, {"status": {"error": f"Wrong input: {error}"}, "time": 0.0}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = respond

    def log_message(self, *_):
        pass


def main():
    Handler.folder = sys.argv[1]
    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
