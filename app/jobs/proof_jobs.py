"""Jobs that draw for live proofs, for the screen: the small model and its samplers in a thread of their own."""

from collections.abc import Iterator
from dataclasses import dataclass

from likely.app.jobs.worker import Tell
from likely.engine.measure.proofs.claim import Claim, Evidence


@dataclass(frozen=True, slots=True)
class ListProofs:
    """List the laws, and all that is known of them without a draw."""


@dataclass(frozen=True, slots=True)
class ProofsListed:
    """The claims, in the order of their pages."""

    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class DrawOn:
    """Draw so many more for the claim of some evidence."""

    evidence: Evidence
    draws: int
    seed: int


class ProofJobs:
    """The executor of one screen's proofs."""

    def execute(self, request: ListProofs | DrawOn, tell: Tell) -> Iterator[ProofsListed | Evidence]:
        from likely.engine.measure.proofs.table import proofs, proving

        known = proofs()
        if isinstance(request, ListProofs):
            yield ProofsListed(tuple(proof.claim for proof in known.values()))
        else:
            proof = known[request.evidence.claim.name]
            yield from proving(proof, request.draws, seed=request.seed, evidence=request.evidence)

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
