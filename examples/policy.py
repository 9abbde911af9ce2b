#!/usr/bin/env python3
"""A policy for `pd-sim simulate --policy-command "python3 examples/policy.py"`: so many requests per replica."""
import json
import math
import sys

PER_REPLICA = {"prefill": 2.0, "decode": 150.0}


def known(reading):
    """A reading is {"value": 1.5}, "knownZero" or {"unknown": why}."""
    return 0.0 if reading == "knownZero" else reading.get("value")


for line in sys.stdin:
    snapshot = json.loads(line)["snapshot"]
    replicas = {}
    for role, per_replica in PER_REPLICA.items():
        running, waiting = (known(snapshot["signals"][name][role]) for name in ("runningRequests", "waitingRequests"))
        if running is None or waiting is None:
            replicas[role] = snapshot["roles"][role]["current"]
        else:
            replicas[role] = max(1, math.ceil((running + waiting) / per_replica))
    print(json.dumps({"replicas": replicas}), flush=True)
