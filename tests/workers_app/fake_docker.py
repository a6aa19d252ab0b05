"""A docker command for tests: its containers are processes that do not end with it. State lies in FAKE_DOCKER."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ.get("FAKE_DOCKER") or Path(__file__).parent)
WITH_VALUE = {
    "--name",
    "--label",
    "--pull",
    "--security-opt",
    "--env-file",
    "--memory",
    "--cpus",
    "--entrypoint",
    "--ulimit",
}


def run(words: list[str]) -> int:
    options: dict[str, str] = {}
    (STATE / "words.json").write_text(" ".join(words))
    passed: dict[str, str] = {}
    while words[0].startswith("-"):
        option = words.pop(0)
        if option == "--env":
            name = words.pop(0)
            passed[name] = os.environ[name]
        else:
            options[option] = words.pop(0) if option in WITH_VALUE else ""
    image, *arguments = words
    (STATE / "asked.json").write_text(json.dumps({"options": options, "image": image, "arguments": arguments}))
    if image == "missing":
        sys.stderr.write("Unable to find image\n")
        return 125
    lines = Path(options["--env-file"]).read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines) | passed
    command = [options["--entrypoint"], *arguments] if "--entrypoint" in options else arguments
    kept = STATE / f"{options['--name']}.container"
    try:
        # As a child of the server would: in a session of its own, with none of our variables.
        child = subprocess.Popen(command, env=variables | {"PATH": os.environ["PATH"]}, start_new_session=True)
    except FileNotFoundError:
        return 127
    kept.write_text(json.dumps({"pid": child.pid, "label": options["--label"]}))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    kept.unlink(missing_ok=True)
    return 128 - code if code < 0 else code


def remove(names: list[str]) -> int:
    for name in names:
        kept = STATE / f"{name}.container"
        if kept.exists():
            pid = json.loads(kept.read_text())["pid"]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            kept.unlink(missing_ok=True)
    return 0


def listed(words: list[str]) -> int:
    label = words[words.index("--filter") + 1].removeprefix("label=")
    for kept in STATE.glob("*.container"):
        if json.loads(kept.read_text())["label"] == label:
            sys.stdout.write(f"{kept.stem}\n")
    return 0


def main() -> int:
    verb, *words = sys.argv[1:]
    if verb == "run":
        return run(words)
    if verb == "rm":
        return remove([word for word in words if word != "--force"])
    if verb == "kill":
        # As of one that has ended already.
        return 1
    return listed(words)


if __name__ == "__main__":
    sys.exit(main())
