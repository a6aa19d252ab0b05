"""A container as a Kubernetes Job of one pod: created, its log followed, its end read, and removed with its pod."""

from __future__ import annotations

import math
import select
import threading
import time
from typing import Any

import structlog
from django.conf import settings

from tasks_app.models import EndStep
from tasks_app.states import Reason, RunState
from workers_app.executors.container import Wish
from workers_app.jobs import Control, Job, Result
from workers_app.kubernetes_api import Cluster, KubernetesError, Piece
from workers_app.output import STDOUT, OutputSink
from workers_app.runtime_settings import KILL_GRACE_SECONDS

log = structlog.get_logger("worker")
RUN_LABEL = "scheduler/run"
POLL_SECONDS = 1.0
# An image that cannot be had is tried again by the cluster, for ever; not by us.
IMAGE_SECONDS = 120.0
GONE_SECONDS = 60.0
MOST_BREAKS = 100
LAST_LINES_SECONDS = 10.0
_BAD_IMAGE = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"}
_HOPELESS = {"InvalidImageName", "CreateContainerConfigError", "CreateContainerError"}
_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}


def run(wish: Wish, job: Job, control: Control, sink: OutputSink) -> Result:
    """Run the Job to its end. Nothing of it runs any more when this returns, or its own deadline ends it."""
    if not settings.SCHEDULER_KUBERNETES_URL:
        detail = "This worker knows no cluster: run it in one, or set SCHEDULER_KUBERNETES_URL."
        return Result(RunState.FAILED, Reason.CONNECTION, detail)
    cluster = Cluster()
    try:
        return _Attempt(cluster, wish, job, control, sink).run()
    except KubernetesError as error:
        return Result(RunState.FAILED, Reason.CONNECTION, f"Kubernetes: {error}")
    finally:
        cluster.close()
        sink.close()


class _Attempt:
    def __init__(self, cluster: Cluster, wish: Wish, job: Job, control: Control, sink: OutputSink) -> None:
        self._cluster, self._wish, self._job, self._control, self._sink = cluster, wish, job, control, sink
        self._deadline = time.monotonic() + job.timeout_seconds
        self._bad_image_since: float | None = None
        self._follower: threading.Thread | None = None
        self._over = threading.Event()

    def run(self) -> Result:
        self._end_earlier()
        grace: int | None = 0
        try:
            # Inside: where the answer got lost the Job may be there all the same.
            self._create()
            result = self._watch()
            grace = None if result.state in (RunState.SUCCEEDED, RunState.FAILED) else self._grace()
            return result
        finally:
            self._over.set()
            self._remove(grace)
            if self._follower is not None:
                # The log ends with its pod.
                self._follower.join(LAST_LINES_SECONDS)

    def _create(self) -> None:
        """Where there are secrets, they come first; the Job then owns them, so that they go with it whatever happens to
        us."""
        if self._wish.secrets:
            # What is left of this attempt and of the one before, where a worker died before there was a Job to own it.
            for attempt in {max(self._job.attempt - 1, 1), self._job.attempt}:
                self._cluster.delete_secret(f"{self._wish.run}-{attempt}")
            self._cluster.create_secret(secret_body(self._wish))
        job = self._cluster.create_job(job_body(self._wish, self._job))
        if self._wish.secrets:
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": self._wish.name, "uid": job["metadata"]["uid"]}
            self._cluster.own_secret(self._wish.name, owner)

    def _grace(self) -> int:
        urgent = self._control.why in (Control.KILL, Control.LOST)
        # The cluster sends the signals, and tells nobody when the second one was needed.
        self._control.took(EndStep.Step.KILL if urgent else EndStep.Step.TERM)
        return 0 if urgent else math.ceil(KILL_GRACE_SECONDS.value)

    def _end_earlier(self) -> None:
        """Another attempt of this run may have been left by a worker that died: it ends before this one begins."""
        if self._job.attempt == 1:
            return
        for left in self._cluster.jobs(f"{RUN_LABEL}={self._wish.run}"):
            self._sink.note("Ending the Job of an earlier attempt.")
            name = left["metadata"]["name"]
            self._cluster.delete_job(name, grace=0)
            self._wait_until_gone(name)

    def _watch(self) -> Result:
        was_there = False
        # Not select(): among a thousand runs the number of a file may be too high for it.
        control = select.poll()
        control.register(self._control.fd, select.POLLIN)
        while True:
            pods = self._pods()
            if pods and (result := self._look_at(pods[-1])) is not None:
                return result
            was_there = was_there or bool(pods)
            if pods == [] and was_there and self._control.why is None:
                detail = "The pod is gone: somebody deleted it, or its node is lost."
                return Result(RunState.FAILED, Reason.INTERNAL, detail)
            if self._control.why is not None:
                return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED, "The Job was ended on request.")
            if time.monotonic() >= self._deadline:
                detail = f"It ran longer than {self._job.timeout_seconds:g} s and was ended."
                return Result(RunState.TIMED_OUT, Reason.TIMEOUT, detail)
            wait = min(POLL_SECONDS, max(self._deadline - time.monotonic(), 0.0))
            control.poll(wait * 1000)

    def _pods(self) -> list[dict[str, Any]] | None:
        """The pods; None where the API is away for a moment, which ends no run."""
        try:
            return self._cluster.pods(self._wish.name)
        except KubernetesError as error:
            if error.status and error.status < 500:
                raise
            log.warning("kubernetes does not answer", run=self._job.run_id, error=str(error))
            return None

    def _look_at(self, pod: dict[str, Any]) -> Result | None:
        status = pod.get("status", {})
        states = [item.get("state", {}) for item in status.get("containerStatuses", []) if item.get("name") == "run"]
        state = states[0] if states else {}
        if "running" in state or "terminated" in state:
            self._follow(pod["metadata"]["name"])
        if "terminated" in state:
            assert self._follower is not None
            # What was written last is still on its way.
            self._follower.join(LAST_LINES_SECONDS)
            self._sink.close()
            return self._judge(state["terminated"])
        if "waiting" in state:
            return self._look_at_waiting(state["waiting"])
        if status.get("phase") == "Failed":
            words = f"{status.get('reason', '')} {status.get('message', '')}".strip()
            return Result(RunState.FAILED, Reason.INTERNAL, f"The pod failed: {words or 'no reason given'}.")
        return None

    def _look_at_waiting(self, waiting: dict[str, Any]) -> Result | None:
        why = waiting.get("reason", "")
        detail = f"The container does not start: {why} {waiting.get('message', '')}".strip()
        if why in _HOPELESS:
            return Result(RunState.FAILED, Reason.INTERNAL, detail, retryable=False)
        if why not in _BAD_IMAGE:
            return None
        now = time.monotonic()
        if self._bad_image_since is None:
            self._bad_image_since = now
            self._sink.note(detail)
        if now - self._bad_image_since >= IMAGE_SECONDS:
            return Result(RunState.FAILED, Reason.COMMAND_NOT_FOUND, detail)
        return None

    def _judge(self, terminated: dict[str, Any]) -> Result:
        code, why = int(terminated.get("exitCode", -1)), terminated.get("reason", "")
        if code == 0:
            return Result(RunState.SUCCEEDED, exit_code=0, output=self._sink.last_json)
        detail = f"Exit code {code}{f' ({why})' if why not in ('', 'Error') else ''}."
        return Result(RunState.FAILED, Reason.EXIT_CODE, detail, exit_code=code)

    def _follow(self, pod: str) -> None:
        if self._follower is None:
            self._follower = threading.Thread(target=self._read_log, args=(pod,), name="pod-log", daemon=True)
            self._follower.start()

    def _read_log(self, pod: str) -> None:
        """Follow the log to its end; after a break from where it broke, by the times of the lines."""
        seen = _Seen()
        for _try in range(MOST_BREAKS):
            try:
                for piece in self._cluster.follow(pod, seen.since):
                    if seen.is_new(piece):
                        self._sink.feed(STDOUT, piece.text)
                return
            except KubernetesError as error:
                if self._over.is_set():
                    return
                log.warning("the log of a pod broke off", run=self._job.run_id, error=str(error))
                seen.begin_again()
                self._over.wait(0.5)
        self._sink.note("The log broke off; the rest of it is with the cluster.")

    def _remove(self, grace: int | None) -> None:
        """Remove the Job; where it may still run, wait until it does not. What is left here has a deadline."""
        try:
            self._cluster.delete_job(self._wish.name, grace=grace)
            if grace is not None:
                self._wait_until_gone(self._wish.name)
            if self._wish.secrets:
                self._cluster.delete_secret(self._wish.name)
        except KubernetesError as error:
            log.error("could not remove a job", job=self._wish.name, error=str(error))

    def _wait_until_gone(self, name: str) -> None:
        end = time.monotonic() + GONE_SECONDS
        while self._cluster.pods(name):
            if time.monotonic() >= end:
                log.error("a pod does not end", job=name)
                return
            time.sleep(0.2)


def secret_body(wish: Wish) -> dict[str, Any]:
    """The secrets of the run as the API takes them, under the name of the Job."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": wish.name, "labels": {RUN_LABEL: wish.run, "app.kubernetes.io/managed-by": "scheduler"}},
        "stringData": dict(wish.secrets),
    }


def job_body(wish: Wish, job: Job) -> dict[str, Any]:
    """The Job as the API takes it. Its own deadline is for the case that nobody is left to end it."""
    first, *rest = wish.entrypoint or [""]
    limits = {name: value for name, value in (("memory", wish.memory), ("cpu", wish.cpus)) if value is not None}
    container: dict[str, Any] = {
        "name": "run",
        "image": wish.image,
        "args": [*rest, *wish.arguments],
        "env": [{"name": name, "value": value} for name, value in sorted(wish.env.items())],
        "imagePullPolicy": _PULL[wish.pull],
        "resources": {"limits": {name: str(value) for name, value in limits.items()}},
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    if first:
        container["command"] = [first]
    if wish.secrets:
        container["envFrom"] = [{"secretRef": {"name": wish.name}}]
    labels = {RUN_LABEL: wish.run, "app.kubernetes.io/managed-by": "scheduler"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": wish.name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(job.timeout_seconds + KILL_GRACE_SECONDS.value),
            "ttlSecondsAfterFinished": 600,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": math.ceil(KILL_GRACE_SECONDS.value),
                    "containers": [container],
                },
            },
        },
    }


class _Seen:
    """What of a log has been read: the time of the last line, and how many lines have that time."""

    def __init__(self) -> None:
        self._last, self._count = "", 0
        self._again, self._taken = 0, True

    @property
    def since(self) -> str | None:
        """The whole second of it, as the API takes nothing finer."""
        return f"{self._last[:19]}Z" if self._last else None

    def begin_again(self) -> None:
        """The log is read once more from `since` on."""
        self._again = 0

    def is_new(self, piece: Piece) -> bool:
        if not piece.at:
            # The rest of a line goes where its beginning went.
            return self._taken
        if piece.at == self._last:
            self._again += 1
            self._taken = self._again > self._count
        else:
            self._taken = piece.at > self._last
            if self._taken:
                self._last, self._count, self._again = piece.at, 0, 1
        if self._taken:
            self._count = self._again
        return self._taken
