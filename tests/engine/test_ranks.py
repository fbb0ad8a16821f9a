"""How processes meet, agree and part, with a thread for each rank: real sockets, no mlx."""

import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.engine.base.distributed.launch import Launch, launched
from likely.engine.base.distributed.link import Link, knock, meet
from likely.engine.base.distributed.together import End, LinkedRanks
from likely.engine.base.errors import ParameterError
from tests.processes import free_ports


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's process was started by no launcher."""
    for name in ("MLX_RANK", "MLX_HOSTFILE", "MLX_IBV_DEVICES", "NCCL_HOST_IP", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)


class Company:
    """Ranks that have met; `ends[r]` is what rank r was told of an end elsewhere."""

    def __init__(self, size: int, star: bool = False) -> None:
        ports = free_ports(size)
        addresses = tuple(("127.0.0.1", port) for port in ports[: 1 if star else size])
        self.ends: dict[int, End] = {}
        self.told = threading.Condition()
        self.links: dict[int, list[Link]] = {}
        found: dict[int, LinkedRanks] = {}

        def come(rank: int) -> None:
            launch = Launch("ring", rank, size, addresses)
            self.links[rank] = meet(launch)
            found[rank] = LinkedRanks(launch, lambda end: self.note(rank, end), self.links[rank])
            found[rank].watch()

        self.run(size, come)
        self.ranks = [found[rank] for rank in range(size)]

    @staticmethod
    def run(size: int, work: object) -> None:
        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]  # type: ignore[arg-type]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
            assert not thread.is_alive()

    def note(self, rank: int, end: End) -> None:
        with self.told:
            self.ends.setdefault(rank, end)
            self.told.notify_all()

    def told_to(self, heard: set[int]) -> list[End]:
        """What these ranks were told, when all of them have been."""
        with self.told:
            assert self.told.wait_for(lambda: heard <= self.ends.keys())
        return [self.ends[rank] for rank in sorted(heard)]

    def kill(self, rank: int) -> None:
        """What the system does to the sockets of a process that ends: all go at once, and nothing more is said."""
        links = list(self.links[rank])
        self.links[rank].clear()
        for each in links:
            each.socket.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=[(2, False), (4, False), (3, True)], ids=["two", "four in a line", "three around one"])
def company(request: pytest.FixtureRequest) -> Iterator[Company]:
    yield Company(*request.param)


def test_what_rank_0_says_holds_for_all_in_its_order(company: Company) -> None:
    heard: dict[int, list[object]] = {}

    def listen(rank: int) -> None:
        heard[rank] = [company.ranks[rank].broadcast([i, "é"] if rank == 0 else None) for i in range(50)]

    company.run(len(company.ranks), listen)
    assert all(said == [[i, "é"] for i in range(50)] for said in heard.values())


def test_rank_0_hears_what_each_rank_sends_in_its_order(company: Company) -> None:
    size, heard = len(company.ranks), []

    def talk(rank: int) -> None:
        for i in range(50) if rank else ():
            company.ranks[rank].send([rank, i])
        while not rank and len(heard) < 50 * (size - 1):
            heard.extend(company.ranks[0].heard(wait=True))

    company.run(size, talk)
    for rank in range(1, size):
        assert [i for sender, i in heard if sender == rank] == list(range(50))


def test_all_know_what_each_rank_has(company: Company) -> None:
    known: dict[int, list[object]] = {}

    def tell(rank: int) -> None:
        known[rank] = [company.ranks[rank].gather([i, rank]) for i in range(20)]

    company.run(size := len(company.ranks), tell)
    assert all(of == [[[i, rank] for rank in range(size)] for i in range(20)] for of in known.values())


def test_rank_0_works_first(company: Company) -> None:
    order: list[int] = []
    company.run(len(company.ranks), lambda rank: company.ranks[rank].in_turn(lambda: order.append(rank)))
    assert order[0] == 0 and sorted(order) == list(range(len(company.ranks)))


def test_leaving_together_is_no_death(company: Company) -> None:
    company.run(len(company.ranks), lambda rank: company.ranks[rank].finish())
    for rank in range(len(company.ranks)):
        company.kill(rank)
    assert not company.ends


@pytest.mark.parametrize("dead", [0, 1])
def test_all_others_hear_of_a_death(dead: int, company: Company) -> None:
    company.kill(dead)
    line = f"rank {dead} is gone: its process or its machine has ended, and the run with it"
    others = company.told_to({*range(len(company.ranks))} - {dead})
    assert set(others) == {End(dead, line, True)}


def test_all_others_hear_why_a_rank_ended(company: Company) -> None:
    last = len(company.ranks) - 1
    company.ranks[last].end("the disk is full")
    assert set(company.told_to({*range(last)})) == {End(last, "the disk is full", False)}
    company.kill(0)  # which has told the person
    if company.ranks[last].launch.parent == 0:
        assert company.told_to({last}) == [End(last, "", False)]


def test_a_stranger_at_the_door_is_sent_away() -> None:
    port = free_ports(1)[0]
    launches = [Launch("jaccl", rank, 2, (("127.0.0.1", port),)) for rank in range(2)]
    found: list[list[Link]] = []
    first = threading.Thread(target=lambda: found.append(meet(launches[0])))
    first.start()
    stranger = knock(launches[1], time.monotonic() + 30)
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert [link.rank for link in meet(launches[1])] == [0]
    first.join()
    assert [[link.rank for link in links] for links in found] == [[1]]
    stranger.close()


@pytest.mark.slow(31)
def test_who_does_not_come_or_cannot_listen_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes half a minute on each time that someone looks at it."""
    clock = itertools.count(step=29.9)
    ports = free_ports(2)
    addresses = tuple(("127.0.0.1", port) for port in ports)
    with monkeypatch.context() as moved:
        moved.setattr(time, "monotonic", lambda: next(clock))
        with pytest.raises(ParameterError, match=r"^rank 1 did not come within 60 s: was it started\?$"):
            meet(Launch("ring", 0, 2, addresses))
        with pytest.raises(ParameterError, match=rf"^rank 0 was not at 127.0.0.1:{ports[0]} within 60 s"):
            meet(Launch("ring", 1, 2, addresses))
    with pytest.raises(ParameterError, match="choose another --starting-port"):
        meet(Launch("ring", 0, 2, (("203.0.113.1", 1), *addresses[1:])))


def test_messages_come_however_they_are_cut() -> None:
    one, far = socket.socketpair()
    near, late = Link(3, one), time.monotonic() + 99
    far.sendall(b'{"a": 1}\n{"b"')
    assert near.read() and list(near.come) == [{"a": 1}]
    far.sendall(b": 2}\n")
    assert near.read() and near.wait("a", late) == 1 and near.wait("b", late) == 2
    near.send({"é": [1]})
    assert json.loads(far.recv(99)) == {"é": [1]}
    far.close()
    with pytest.raises(ParameterError, match="rank 3 ended, or did not come within 60 s"):
        near.wait("d", late)
    near.socket.close()
    near.send({"a": 1})  # nobody hears it
    assert not near.read()


def test_ranks_hold_on_to_each_other_in_a_line_or_around_one() -> None:
    line = tuple(("host" if i % 2 else "other", i) for i in range(4))
    told = [(r.parent, r.children, r.here) for r in (Launch("ring", rank, 4, line) for rank in range(4))]
    assert told == [(None, [1], 2), (0, [2], 2), (1, [3], 2), (2, [], 2)]
    star = [(r.parent, r.children, r.here) for r in (Launch("jaccl", rank, 3, line[:1]) for rank in range(3))]
    assert star == [(None, [1, 2], 1), (0, [], 1), (0, [], 1)]


HOSTS, REFUSED = '[["a:1"], ["b:2"]]', "the launcher's hosts cannot be read"
LAUNCHES: list[tuple[dict[str, str], str, Launch | str | None]] = [  # of FILE the name is put in
    ({}, "", None),
    ({"MLX_HOSTFILE": "FILE"}, '[["a:1", "x:9"], ["b:2"]]', Launch("ring", 0, 2, (("a", 1), ("b", 2)))),
    ({"MLX_HOSTFILE": "FILE", "MLX_RANK": "1"}, HOSTS, Launch("ring", 1, 2, (("a", 1), ("b", 2)))),
    ({"MLX_HOSTFILE": "FILE"}, '[["a:1"]]', None), ({"MLX_HOSTFILE": "FILE"}, " \n", None),  # mlx.launch -n 1
    ({"MLX_IBV_DEVICES": "FILE", "MLX_JACCL_COORDINATOR": "[::1]:7", "MLX_RANK": "1"}, "[1, 2, 3]",
     Launch("jaccl", 1, 3, (("[::1]", 7),))),
    ({"NCCL_HOST_IP": "h", "NCCL_PORT": "5", "MLX_WORLD_SIZE": "2", "MLX_RANK": "1"}, "",
     Launch("nccl", 1, 2, (("h", 5),))),
    ({"OMPI_COMM_WORLD_SIZE": "1"}, "", None), ({"PMI_SIZE": "1"}, "", None),
    ({"MLX_HOSTFILE": "/nowhere/hosts"}, "", REFUSED), ({"MLX_HOSTFILE": "FILE"}, '{"hosts": 2}', REFUSED),
    ({"MLX_HOSTFILE": "FILE"}, '[["a:1"], ["b"]]', REFUSED), ({"MLX_HOSTFILE": "FILE"}, "[[]]", REFUSED),
    ({"MLX_HOSTFILE": "FILE", "MLX_RANK": "one"}, HOSTS, REFUSED),
    ({"MLX_HOSTFILE": "FILE", "MLX_RANK": "7"}, HOSTS, "MLX_RANK must be below the 2 hosts of the launcher, got 7"),
    ({"MLX_HOSTFILE": "FILE", "MLX_RANK": "-1"}, HOSTS, "below the 2 hosts of the launcher, got -1"),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, "", "mpi has not: use --backend ring"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "text", "launch"), LAUNCHES)
def test_each_launcher_is_read_or_refused(
    told: dict[str, str], text: str, launch: Launch | str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text(text)
    for name, value in told.items():
        monkeypatch.setenv(name, value.replace("FILE", str(tmp_path / "hosts")))
    if not isinstance(launch, str):
        assert launched() == launch
        return
    with pytest.raises(ParameterError, match=launch) as refused:
        launched()
    assert "\n" not in str(refused.value)
