"""What a launcher says, read, and messages between neighbours: frames that come in any parts, and who is none of us."""

import json
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ParameterError
from engine.ranks import link
from engine.ranks.launch import Launch, launched
from engine.ranks.link import Link, knock
from engine.ranks.together import End, LinkedRanks
from tests.processes import free_ports

NAMES = ("MLX_RANK", "MLX_HOSTFILE", "MLX_IBV_DEVICES", "NCCL_HOST_IP", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_ranks_hold_on_to_each_other_in_a_line_or_around_one() -> None:
    line = tuple(("host" if i < 2 else "other", i) for i in range(4))
    told = [(r.parent, r.children, r.here) for r in (Launch("ring", rank, 4, line) for rank in range(4))]
    assert told == [(None, [1], 2), (0, [2], 2), (1, [3], 2), (2, [], 2)]
    star = [(r.parent, r.children, r.here) for r in (Launch("jaccl", rank, 3, line[:1]) for rank in range(3))]
    assert star == [(None, [1, 2], 1), (0, [], 1), (0, [], 1)]


def test_each_launcher_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    hosts = tmp_path / "hosts"
    hosts.write_text(json.dumps([["a:1", "x:9"], ["b:2"], ["c:3"]]))
    monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    assert launched() == Launch("ring", 0, 3, (("a", 1), ("b", 2), ("c", 3)))
    monkeypatch.setenv("MLX_RANK", "2")
    assert launched() == Launch("ring", 2, 3, (("a", 1), ("b", 2), ("c", 3)))
    for rank in ("3", "-1"):
        monkeypatch.setenv("MLX_RANK", rank)
        with pytest.raises(ParameterError, match=f"below the 3 hosts of the launcher, got {rank}"):
            launched()
    monkeypatch.setenv("MLX_RANK", "1")
    for text, want in ((json.dumps([["a:1"]]), None), ("  ", None), ("[]", None)):
        hosts.write_text(text)
        assert launched() is want
    for text in ("{", "[1]", '[["a"]]', "[[]]"):
        hosts.write_text(text)
        with pytest.raises(ParameterError, match=r"hosts cannot be read .*start with mlx.launch -n 2"):
            launched()
    monkeypatch.setenv("MLX_RANK", "x")
    with pytest.raises(ParameterError, match="hosts cannot be read"):
        launched()
    monkeypatch.delenv("MLX_HOSTFILE")
    monkeypatch.setenv("MLX_RANK", "1")
    hosts.write_text("[1, 2, 3]")
    monkeypatch.setenv("MLX_IBV_DEVICES", str(hosts))
    monkeypatch.setenv("MLX_JACCL_COORDINATOR", "[::1]:7")
    assert launched() == Launch("jaccl", 1, 3, (("[::1]", 7),))
    monkeypatch.delenv("MLX_IBV_DEVICES")
    monkeypatch.setenv("NCCL_HOST_IP", "h")
    monkeypatch.setenv("NCCL_PORT", "5")
    monkeypatch.setenv("MLX_WORLD_SIZE", "2")
    assert launched() == Launch("nccl", 1, 2, (("h", 5),))
    monkeypatch.delenv("NCCL_HOST_IP")
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.setenv(name, "1")
        assert launched() is None
        monkeypatch.setenv(name, "2")
        with pytest.raises(ParameterError, match="mpi has not: use --backend ring"):
            launched()
        monkeypatch.delenv(name)


def linked() -> tuple[Link, socket.socket]:
    one, other = socket.socketpair()
    return Link(3, one), other


def test_messages_come_however_they_are_cut() -> None:
    near, far = linked()
    far.sendall(b'{"a": 1}\n{"b"')
    assert near.read() and list(near.come) == [{"a": 1}] and near.rest == b'{"b"'
    far.sendall(b": 2}\n")
    assert near.read() and near.wait("a", time.monotonic() + 9) == 1 and near.wait("b", time.monotonic() + 9) == 2
    near.send({"é": [1]})
    assert json.loads(far.recv(99)) == {"é": [1]}
    far.sendall(b'{"c": 3}\n')
    assert near.wait("c", time.monotonic() + 9) == 3 and near.socket.gettimeout() is None
    far.close()
    assert not near.read()
    with pytest.raises(ParameterError, match="rank 3 ended, or did not come within 60 s"):
        near.wait("d", time.monotonic() + 9)
    near.socket.close()
    near.send({"a": 1})  # nobody hears it
    assert not near.read()
    silent, kept = linked()
    with pytest.raises(ParameterError, match="did not come"):
        silent.wait("a", time.monotonic() - 1)
    kept.close()


def test_a_parent_that_is_not_there_is_waited_for_until_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    launch = Launch("ring", 1, 2, (("127.0.0.1", port), ("127.0.0.1", 1)))
    with pytest.raises(ParameterError, match=rf"rank 0 was not at 127.0.0.1:{port} within 60 s \(Connection refused\)"):
        knock(launch, time.monotonic() - 1)
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    found = knock(launch, time.monotonic() + 9)
    assert found.getpeername()[1] == port
    for each in (found, listener):
        each.close()
    with pytest.raises(ParameterError, match="choose another --starting-port"):
        link._listen(("203.0.113.1", 1), 1)


class Neighbour:
    """A link that keeps what it is sent."""

    def __init__(self, rank: int) -> None:
        self.rank, self.sent, self.come = rank, list[Any](), deque[Any]()

    def send(self, message: Any) -> None:
        self.sent.append(message)


def rank(number: int, size: int = 3) -> tuple[LinkedRanks, list[End], Neighbour, Neighbour]:
    ends: list[End] = []
    left, right = Neighbour(number - 1), Neighbour(number + 1)
    return LinkedRanks(Launch("ring", number, size, ()), ends.append, [left, right]), ends, left, right  # type: ignore[list-item]


def test_rank_0_leads_and_others_follow() -> None:
    leader, _, left, right = rank(0)
    assert leader.leads and (leader.rank, leader.size) == (0, 3) and leader.broadcast([1]) == [1]
    assert left.sent == right.sent == [{"value": [1]}]
    assert leader.in_turn(lambda: 5) == 5 and left.sent[-1] == {"value": None} and len(left.sent) == 2
    leader._act({"heard": 7})
    leader._act({"heard": 8})
    assert list(leader.heard()) == [7, 8] and list(leader.heard()) == []
    leader._act({"heard": 9})
    assert list(leader.heard(wait=True)) == [9]
    follower, _, left, right = rank(1)
    follower._act({"value": "said"})
    follower._act({"value": None})
    assert not follower.leads and follower.broadcast("own") == "said" and follower.in_turn(lambda: 6) == 6
    follower.send(4)
    assert left.sent == right.sent == [{"heard": 4}]
    follower._act({"heard": 7})
    assert list(follower.heard()) == []


def test_what_comes_is_passed_on_and_ends_are_told_once() -> None:
    mine, ends, left, right = rank(1)
    left.come = deque([{"value": 1}, {"done": 0}])
    mine._take(left)  # type: ignore[arg-type]
    assert (
        right.sent == [{"value": 1}, {"done": 0}]
        and left.sent == []
        and mine._done == {0}
        and not mine._all_done.is_set()
    )
    mine._act({"done": 2})
    assert not mine._all_done.is_set()
    mine.finish()
    assert mine._all_done.is_set() and left.sent == [{"done": 1}] and mine._done == {0, 1, 2}
    mine._act({"end": "why", "rank": 2, "lost": False})
    assert ends == [End(2, "why", False)]
    mine._lost(right)  # type: ignore[arg-type]
    line = "rank 2 is gone: its process or its machine has ended, and the run with it"
    assert (
        ends[1] == End(2, line, True)
        and left.sent[-1] == {"end": line, "rank": 2, "lost": True}
        and right.sent[-1] != left.sent[-1]
    )
    mine.end("bye")
    assert right.sent[-1] == {"end": "bye", "rank": 1, "lost": False}
    mine._lost(left)  # type: ignore[arg-type]
    assert ends[2] == End(1, "", False) and len(ends) == 3
