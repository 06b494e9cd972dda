"""Makes calls to a sessiond by grpcio, as the JSON list in the first argument says, and prints one JSON object a line with
the status of each. It is the counterpart of tests/go/caller.
"""

import json
import sys

import grpc


def call(order):
    options = [("grpc.enable_http_proxy", 0)]
    if order["authority"]:
        options.append(("grpc.default_authority", order["authority"]))
    with grpc.insecure_channel(order["target"], options) as channel:
        # An empty message is a valid request of every method called here.
        method = channel.unary_unary(order["method"])
        metadata = [("x-filler", "v" * order["metadata_bytes"])] if order["metadata_bytes"] else []
        for _ in range(order["times"]):
            try:
                method(b"", timeout=20, metadata=metadata, wait_for_ready=True)
            except grpc.RpcError as error:
                trailers = dict(error.trailing_metadata() or ())
                reason = trailers.get("sessiond-reason", "")
                return {"code": camel(error.code().name), "message": error.details(), "reason": reason}
    return {"code": "OK", "message": "", "reason": ""}


def camel(code):
    """A code's name as Go writes it."""
    return "".join(word.capitalize() for word in code.split("_"))


for order in json.loads(sys.argv[1]):
    print(json.dumps(call(order)), flush=True)
