"""A launcher's environment, read: which rank this process is, of how many, and where the others are."""

import os
from dataclasses import dataclass
from pathlib import Path

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import read_whole


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch: the backend, and where the ranks are (of nccl and jaccl: where rank 0 is)."""

    backend: str
    rank: int
    size: int
    addresses: tuple[tuple[str, int], ...]

    @property
    def here(self) -> int:
        """How many of the ranks are on this machine, as far as the addresses say."""
        hosts = [host for host, _ in self.addresses]
        return hosts.count(hosts[self.rank]) if len(hosts) > 1 else 1

    @property
    def parent(self) -> int | None:
        """The rank that this one holds on to: its neighbour in a line, or rank 0 where only that is known."""
        return None if not self.rank else self.rank - 1 if len(self.addresses) > 1 else 0

    @property
    def children(self) -> list[int]:
        """The ranks that hold on to this one."""
        if len(self.addresses) > 1:
            return [self.rank + 1] if self.rank + 1 < self.size else []
        return list(range(1, self.size)) if not self.rank else []


def launched() -> Launch | None:
    """The launch that the environment tells of; None for a process alone. ParameterError where it is of no use."""
    env = os.environ
    try:
        rank = int(env.get("MLX_RANK", 0))
        if "MLX_HOSTFILE" in env:
            hosts = foreign_json.parse(read_whole(Path(env["MLX_HOSTFILE"])).strip() or "[]", [[str]])
            addresses = tuple(_address(node[0]) for node in hosts)
            launch = Launch("ring", rank, len(addresses), addresses)
        elif "MLX_IBV_DEVICES" in env:
            size = len(foreign_json.read(Path(env["MLX_IBV_DEVICES"]), list))
            launch = Launch("jaccl", rank, size, (_address(env["MLX_JACCL_COORDINATOR"]),))
        elif "NCCL_HOST_IP" in env:
            launch = Launch("nccl", rank, int(env["MLX_WORLD_SIZE"]), ((env["NCCL_HOST_IP"], int(env["NCCL_PORT"])),))
        elif int(env.get("OMPI_COMM_WORLD_SIZE", env.get("PMI_SIZE", 1))) > 1:
            raise ParameterError("ranks meet by the addresses of mlx.launch, which mpi has not: use --backend ring")
        else:
            return None
    except (DataError, ValueError, LookupError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"the launcher's hosts cannot be read ({error}): start with mlx.launch -n 2") from error
    if launch.size < 2:
        return None
    if not 0 <= rank < launch.size:
        raise ParameterError(f"MLX_RANK must be below the {launch.size} hosts of the launcher, got {rank}")
    return launch


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
