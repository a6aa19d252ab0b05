"""`callable`: one registered callable on a warm host. Packs of them do not come through here, see workers_app.packs."""

from __future__ import annotations

from workers_app import hosts
from workers_app.jobs import Active, Control, Job, Result
from workers_app.output import OutputSink
from workers_app.packs import Pack


def execute(job: Job, control: Control, sink: OutputSink) -> Result:
    results: list[Result] = []
    pack = Pack(hosts.pool, [(Active(job, control), sink)], lambda _active, _sink, result: results.append(result))
    pack.run()
    return results[0]
