"""How processes meet, agree and part, with a thread for each rank: real sockets, no mlx."""

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

from engine import ranks
from engine.errors import ParameterError
from engine.evaluate.evaluation import Outcome, Result
from engine.evaluate.spread import spread
from engine.evaluate.tasks import Problem
from engine.ranks import link
from engine.ranks.launch import Launch, launched
from engine.ranks.together import End, LinkedRanks, join
from tests.processes import free_ports


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's process is no rank before nor after."""
    monkeypatch.setattr(ranks, "_joined", None)
    for name in ("MLX_RANK", "MLX_HOSTFILE", "MLX_IBV_DEVICES", "NCCL_HOST_IP", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)


class Company:
    """Ranks that have met; `ends[r]` is what rank r was told of an end elsewhere."""

    def __init__(self, size: int, star: bool = False) -> None:
        ports = free_ports(size)
        addresses = tuple(("127.0.0.1", port) for port in ports[: 1 if star else size])
        self.ends: dict[int, End] = {}
        self.told = threading.Condition()
        found: dict[int, LinkedRanks] = {}

        def come(rank: int) -> None:
            found[rank] = join(Launch("ring", rank, size, addresses), lambda end: self.note(rank, end))

        self.run(size, come)
        self.ranks = [found[rank] for rank in range(size)]

    @staticmethod
    def run(size: int, work: object) -> None:
        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]  # type: ignore[arg-type]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    def note(self, rank: int, end: End) -> None:
        with self.told:
            self.ends.setdefault(rank, end)
            self.told.notify_all()

    def told_to(self, heard: set[int]) -> list[End]:
        """What these ranks were told, when all of them have been."""
        with self.told:
            assert self.told.wait_for(lambda: heard <= self.ends.keys(), timeout=60)
        return [self.ends[rank] for rank in sorted(heard)]

    def kill(self, rank: int) -> None:
        """What the system does to the sockets of a process that ends: all go at once, and nothing more is said."""
        links, self.ranks[rank]._links = self.ranks[rank]._links, []
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


def test_items_are_spread_and_all_of_them_heard_of(company: Company) -> None:
    """Known ones are asked nowhere; a rank with other items is sent away."""
    size, asked, found = len(company.ranks), defaultdict(list), []

    def ask(rank: int, out: Container[int]) -> Iterator[Outcome]:
        for number in range(30):
            if number % 7 == 6:
                yield Problem(number, "empty", "nothing there")
            elif number not in out:
                asked[rank].append(number)
                yield Result(number, None, {"acc": float(number)}, {"loglikelihoods": [-1.0]})

    def work(rank: int) -> None:
        outcomes = spread(company.ranks[rank], "the task", {3, 4} if rank == 0 else set(), lambda out: ask(rank, out))
        found.extend(outcomes) if rank == 0 else list(outcomes)

    company.run(size, work)
    numbers = sorted(each.number for each in found if isinstance(each, Result))
    assert numbers == sorted(n for each in asked.values() for n in each)
    assert numbers == [n for n in range(30) if n % 7 != 6 and n not in (3, 4)]
    assert all(len(asked[rank]) > 3 for rank in range(size))
    assert [each.number for each in sorted(found, key=lambda e: e.number) if isinstance(each, Problem)] == [
        6,
        13,
        20,
        27,
    ]
    refused = []

    def differ(rank: int) -> None:
        try:
            list(spread(company.ranks[rank], f"task {rank > 0}", set(), lambda out: iter(())))
        except ParameterError as error:
            refused.append(str(error))
            company.ranks[rank].send(None)

    company.run(size, differ)
    assert len(refused) == size - 1 and all("than on rank 0" in line for line in refused)


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
    found: list[LinkedRanks] = []
    first = threading.Thread(target=lambda: found.append(join(launches[0], lambda end: None)))
    first.start()
    stranger = link.knock(launches[1], time.monotonic() + 30)
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert join(launches[1], lambda end: None).rank == 1
    first.join(timeout=60)
    assert found[0].leads
    stranger.close()


def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MEET_S", 0.2)
    ports = free_ports(2)
    addresses = tuple(("127.0.0.1", port) for port in ports)
    with pytest.raises(ParameterError, match=r"^rank 1 did not come within 0 s: was it started\?$"):
        join(Launch("ring", 0, 2, addresses), lambda end: None)
    with pytest.raises(ParameterError, match=rf"^rank 0 was not at 127.0.0.1:{ports[0]} within 0 s"):
        join(Launch("ring", 1, 2, addresses), lambda end: None)


def test_the_environment_is_the_switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert launched() is None
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([["10.0.0.1:5000", "10.0.0.1:5001"], ["10.0.0.2:5002", "10.0.0.2:5003"]]))
    monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    monkeypatch.setenv("MLX_RANK", "1")
    found = launched()
    assert found == Launch("ring", 1, 2, (("10.0.0.1", 5000), ("10.0.0.2", 5002)))
    assert (found.parent, found.children, found.here) == (0, [], 1)
    hosts.write_text("\n")  # mlx.launch -n 1
    assert launched() is None


def test_ranks_of_one_machine_know_how_many_they_are() -> None:
    addresses = (("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.1", 3))
    assert [Launch("ring", rank, 3, addresses).here for rank in range(3)] == [2, 1, 2]
    assert Launch("jaccl", 1, 3, addresses[:1]).here == 1


def test_other_backends_know_where_rank_0_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    devices = tmp_path / "devices.json"
    devices.write_text(json.dumps([[None, "rdma_en2", "rdma_en3"]] * 3))
    for name, value in {
        "MLX_RANK": "0",
        "MLX_IBV_DEVICES": str(devices),
        "MLX_JACCL_COORDINATOR": "10.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    found = launched()
    assert found == Launch("jaccl", 0, 3, (("10.0.0.1", 9),))
    assert (found.parent, found.children) == (None, [1, 2])


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("MLX_HOSTFILE", "/nowhere/hosts", "the launcher's hosts cannot be read"),
        ("MLX_HOSTFILE", '{"hosts": 2}', "the launcher's hosts cannot be read"),
        ("MLX_HOSTFILE", '[["a:1"], ["b"]]', "the launcher's hosts cannot be read"),
        ("MLX_RANK", "7", "MLX_RANK must be below the 2 hosts of the launcher, got 7"),
        ("MLX_RANK", "one", "the launcher's hosts cannot be read"),
        ("OMPI_COMM_WORLD_SIZE", "2", "mpi"),
    ],
)
def test_a_launcher_that_cannot_be_followed(
    name: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts.json"
    hosts.write_text('[["a:1"], ["b:2"]]')
    if name != "OMPI_COMM_WORLD_SIZE":
        monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    if name == "MLX_HOSTFILE" and value[0] in "[{":
        hosts.write_text(value)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=line) as refused:
        launched()
    assert "\n" not in str(refused.value)
