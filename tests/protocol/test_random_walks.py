"""Random sequences of faults, requests and crashes end with the same invariants as single faults.

A sequence is drawn from its seed; which thread or answer comes first is not, so that a sequence
played again may go another way. A failure tells the seed and what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.protocol.families import BOTH, LIVE, RUNS_ALL_WITH_BOTH, SORA, Family
from tests.protocol.faulty_sandbox import FaultySandbox, Receiver
from tests.protocol.invariants import check_invariants
from tests.protocol.matrix import Matrix
from tests.protocol.scenario import Scenario
from tests.protocol.walk import NEEDS, Walk

_SEQUENCES = 160
_A_TEST = 20
# By default each clip of a sequence is made by a family that is drawn for it.
_FAMILIES = [BOTH, (SORA,), (LIVE,)] if RUNS_ALL_WITH_BOTH else [BOTH]


@pytest.mark.parametrize("families", _FAMILIES, ids=lambda some: "-".join(map(str, some)))
@pytest.mark.parametrize("first_seed", range(0, _SEQUENCES, _A_TEST))
def test_random_sequences_cost_nothing_twice_and_lose_nothing(
    faulty: FaultySandbox,
    new_scenario: Callable[..., Scenario],
    receiver: Receiver,
    matrix: Matrix,
    first_seed: int,
    families: Sequence[Family],
) -> None:
    matrix.sequences_need = NEEDS
    broken: list[str] = []
    for seed in range(first_seed, first_seed + _A_TEST):
        scenario = new_scenario()
        walk = Walk(seed, scenario, families)
        try:
            walk.run(receiver)
            found = check_invariants(scenario, may_be_lost=walk.may_be_lost, may_leave_files=True)
            violations = [
                f"invariant {number}: {text}" for number, texts in found.items() for text in texts
            ]
        except Exception as error:
            error.add_note(str(walk))
            raise
        finally:
            faulty.clear_faults()
            scenario.close()
        matrix.sequences += 1
        if violations:
            matrix.broken_sequences += 1
            broken.append("\n".join([str(walk), *violations]))
    assert not broken, "\n\n".join(broken)
