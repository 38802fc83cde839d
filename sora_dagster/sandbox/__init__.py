"""A local Runware: the API over HTTP, with real videos, for demos and tests.

It charges nothing and needs no network. Start it with `sora-dagster sandbox`, or in a test::

    with running_sandbox(SandboxSettings(latency_seconds=0.1)) as base_url:
        ...

(both names are in `sora_dagster.sandbox.server` and `sora_dagster.sandbox.settings`).

A fault plan (`sora_dagster.sandbox.faults`) makes it misbehave; it can be set at
``/sandbox/faults`` while it runs. ``/sandbox/ledger`` lists what it charged.
"""
