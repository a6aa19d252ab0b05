"""The agent's file by itself: an old Python reads it, and what it keeps of output is numbered, capped and whole."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parent.parent.parent / "agent" / "agent.py"


@pytest.fixture(scope="module")
def agent() -> Any:
    spec = importlib.util.spec_from_file_location("scheduler_agent", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its annotations are looked up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(agent: Any) -> Callable[..., Any]:
    return lambda cap=100_000, line_bytes=1000: agent.Output(cap, line_bytes)


def sent(output: Any) -> list[tuple[int, str, str]]:
    """(number, stream, text) of all lines, taken as the agent sends them."""
    found: list[tuple[int, str, str]] = []
    while (batch := output.batch())[1]:
        first, lines, _truncated = batch
        found += [(first + place, stream, text) for place, (_age, stream, text) in enumerate(lines)]
        output.sent(first + len(lines))
    return found


def texts(output: Any) -> list[str]:
    return [text for _number, _stream, text in sent(output)]


def test_it_is_the_standard_library_alone_in_the_syntax_of_python_3_9():
    tree = ast.parse(FILE.read_text(), feature_version=(3, 9))
    names = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and node.module
            else []
        )
    }
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "https://x"], "give the worker key"),
        (["--url", "ftp://x"], "--url begins with"),
        (["--url", "https://x", "--scripts", "/nowhere"], "there is no folder /nowhere"),
        (["--url", "https://x", "--key-file", "/nowhere"], "--key-file"),
        ([], "--url"),
    ],
)
def test_a_command_that_cannot_work_is_refused_with_what_is_wrong(arguments, said):
    command = [sys.executable, "-I", "-S", str(FILE), *arguments]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2 and said in done.stderr


def test_lines_are_numbered_and_stay_until_the_server_has_them(make):
    output = make()
    output.feed("stdout", b"a\nb")
    output.feed("stderr", b"oops\n")
    assert output.batch()[0] == 0 and [line[1:] for line in output.batch()[1]] == [["stdout", "a"], ["stderr", "oops"]]
    output.sent(1)
    output.feed("stdout", b"c\r\n")
    assert sent(output) == [(1, "stderr", "oops"), (2, "stdout", "bc")]


def test_what_has_no_newline_at_its_end_comes_when_it_is_closed(make):
    output = make()
    output.feed("stdout", b"a\nno newline")
    assert texts(output) == ["a"]
    output.close()
    output.close()
    assert texts(output) == ["no newline"]


def test_what_cannot_be_text_is_made_text(make):
    output = make()
    output.feed("stdout", b"\xff\x00ok\n")
    assert texts(output) == ["\ufffd\ufffdok"]


def test_a_long_line_is_cut_and_says_so(make):
    output = make(line_bytes=10)
    for _ in range(100):
        output.feed("stdout", b"x" * 1000)
    output.feed("stdout", b"\nnext\n")
    assert texts(output) == ["x" * 10 + " … 99,990 bytes of this line were left out", "next"]


def test_of_a_flood_the_head_and_the_tail_are_kept_with_a_mark_between(make):
    output = make(cap=20_000)
    for start in range(0, 200_000, 1000):
        output.feed("stdout", b"".join(b"%d\n" % n for n in range(start, start + 1000)))
    output.close()
    first, lines, truncated = output.batch()
    assert (first, lines[0][2], truncated) == (0, "0", False)
    output.sent(len(lines))
    mark = output.batch()
    assert mark[2] and "bytes of output were left out here" in mark[1][0][2]
    tail = texts(output)[1:]
    numbers = [int(text) for text in tail]
    assert numbers == list(range(numbers[0], 200_000)), "whole lines, to the last one"
    assert sum(len(text) + 24 for text in tail) <= 10_100 and len(numbers) > 100


def test_a_flood_costs_little_time_and_memory(make):
    output = make(cap=1024 * 1024)
    started, data = time.process_time(), b"y\n" * 32768
    for _ in range(1000):
        output.feed("stdout", data)
    assert output._tail_size <= output._tail_most
    output.close()
    assert time.process_time() - started < 10
    assert sum(len(text) for text in texts(output)) < 1024 * 1024


@pytest.mark.parametrize(
    ("pieces", "result"),
    [
        ([b'noise\n{"rows": 3}\n'], '{"rows": 3}'),
        ([b'noise\n{"ro', b'ws": 3}', b"\n\n  \n"], '{"rows": 3}'),
        ([b'{"rows": 3}'], '{"rows": 3}'),
        ([b"first\n", b"last\n"], "last"),
        ([b"x" * 70_000, b"\n"], ""),
        ([b"x" * 70_000, b"\nshort\n"], "short"),
        ([b"\n\n"], ""),
        ([], ""),
    ],
)
def test_the_last_line_of_stdout_is_the_result(make, pieces, result):
    output = make()
    for piece in pieces:
        output.feed("stdout", piece)
        output.feed("stderr", b"not this\n")
    output.close()
    assert output.result == result


def test_where_the_server_lacks_lines_the_others_are_numbered_on_from_what_it_has(make):
    output = make()
    output.feed("stdout", b"a\nb\nc\n")
    output.sent(2)
    output.sent(1)
    assert sent(output) == [(1, "stdout", "c")]


def test_after_the_server_takes_no_more_nothing_is_kept(make):
    output = make()
    output.feed("stdout", b"a\n")
    output.sent(1)
    output.feed("stdout", b"b\n" * 100)
    output.give_up()
    output.feed("stdout", b"c\n" * 100)
    assert output.batch()[:2] == (1, [])


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True, env={"SCHEDULER_WORKER": "mark-of-a-test"})
    yield process
    process.kill()
    process.wait()


def guarded(agent: Any, *lines: bytes, close: bool = True) -> None:
    """A guardian that is told this; with `close` the agent then dies."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        try:
            agent.guard(reader)
        finally:
            os._exit(0)
    os.close(reader)
    os.write(writer, b"".join(lines))
    if not close:
        time.sleep(1.5)
    os.close(writer)
    os.waitpid(child, 0)


def test_the_guardian_ends_what_it_was_told_of_when_the_agent_is_gone(agent, sleeper):
    guarded(agent, b"=other\n", b"+%d\n" % sleeper.pid)
    assert sleeper.wait(5) == -9


def test_the_guardian_leaves_what_it_was_told_to_forget(agent, sleeper):
    guarded(agent, b"=other\n", b"+%d\n-%d\n" % (sleeper.pid, sleeper.pid))
    assert sleeper.poll() is None


def test_the_guardian_finds_what_has_left_its_group_by_its_mark(agent, sleeper):
    guarded(agent, b"=mark-of-a-test\n")
    assert sleeper.wait(5) == -9


def test_the_guardian_ends_the_runs_of_an_agent_whose_lease_is_over(agent, sleeper):
    guarded(agent, b"=other\nL0.2\n+%d\n" % sleeper.pid, close=False)
    assert sleeper.wait(5) == -9


@pytest.mark.parametrize(
    "value", ['correct/horse+battery "it\'s" ä 42', "line one\nline two\n", "x" * 100, "short", ""]
)
def test_the_agent_masks_what_the_server_would(agent, value):
    from access_app.masking import MaskedStream, Masks

    ours, theirs = Masks([value]), agent.Masks([value])
    assert theirs._forms == ours._forms
    text = f"a {value} b {value[:3]}\n{value * 2} no end".encode()
    for size in (1, 5, len(text)):
        streams = MaskedStream(ours), agent.MaskedStream(theirs)
        passed = [b"".join(s.feed(text[n : n + size]) for n in range(0, len(text), size)) + s.finish() for s in streams]
        assert passed[0] == passed[1] == ours.data(text)


def test_secrets_are_masked_before_anything_is_kept(agent):
    value = "correct horse battery"
    output = agent.Output(100_000, 1000, agent.Masks([value]))
    output.feed("stdout", b"token correct ho")
    output.feed("stdout", b"rse battery\nno end " + value.encode())
    output.close()
    assert texts(output) == ["token ***", "no end ***"]
    assert output.result == "no end ***"
