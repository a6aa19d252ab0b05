"""`container`: an image with arguments, by the docker command of the host or as a Kubernetes Job."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings

from workers_app.environment import about_run
from workers_app.jobs import Control, Job, Result
from workers_app.limits import MB, Limits
from workers_app.output import OutputSink


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to run: `memory` in bytes, `cpus` as a number of processors, None for no limit; `pull` is missing, always
    or never. `name` is that of this attempt, `run` that of all attempts of the run on every engine. `secrets` are
    variables too, and for nobody else to see."""

    name: str
    run: str
    image: str
    arguments: list[str]
    entrypoint: list[str] | None
    env: dict[str, str]
    secrets: dict[str, str] = field(repr=False)
    memory: int | None
    cpus: float | None
    pull: str
    limits: Limits


def execute(job: Job, control: Control, sink: OutputSink) -> Result:
    wish = wish_of(job)
    # They are for what is in the container, not for the program that starts it.
    job = replace(job, limits=Limits(), secrets={})
    if settings.SCHEDULER_CONTAINER_ENGINE == "kubernetes":
        from workers_app import kubernetes_job

        return kubernetes_job.run(wish, job, control, sink)
    from workers_app import docker_command

    return docker_command.run(wish, job, control, sink)


def wish_of(job: Job) -> Wish:
    image, *arguments = shlex.split(job.command)
    params = job.params
    run = f"{settings.SCHEDULER_QUEUE_PREFIX}-{job.run_id}"
    own = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in params.get("env", {}).items()
    }
    return Wish(
        name=f"{run}-{job.attempt}",
        run=run,
        image=image,
        arguments=arguments,
        entrypoint=params.get("entrypoint"),
        env={name: value for name, value in (about_run(job) | own).items() if name not in job.secrets},
        secrets=dict(job.secrets),
        memory=_least(_bytes(params.get("memory")), job.limits.memory_mb and job.limits.memory_mb * MB),
        cpus=params.get("cpus"),
        pull=params.get("pull", "missing"),
        limits=job.limits,
    )


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _bytes(text: Any) -> int | None:
    """`512m` as docker reads it: k, m and g are powers of 1024."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1] in "kmg" else (text, "")
    return int(number) * int(1024 ** " kmg".index(unit or " "))
