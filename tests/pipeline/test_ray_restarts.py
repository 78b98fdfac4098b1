"""Ray workers that die at their start again and again cost a pause each, not the driver's time; the others go on."""

from pipeline.executors.ray_restarts import FIRST_PAUSE, LONGEST_PAUSE, Restarts


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_grow_to_minutes_and_a_start_that_succeeds_ends_that() -> None:
    clock = _Clock()
    restarts = Restarts(clock)
    pauses = []
    for _ in range(9):
        pauses.append(restarts.failed(3))
        assert restarts.waiting
        clock.now += pauses[-1] - 0.1
        assert restarts.take_due() == []
        clock.now += 0.1
        assert restarts.take_due() == [3]
        assert restarts.take_due() == [] and not restarts.waiting
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-2:] == [LONGEST_PAUSE, LONGEST_PAUSE] and LONGEST_PAUSE >= 120
    assert restarts.failed(4) == FIRST_PAUSE, "each worker has its own"
    restarts.came_up(3)
    assert restarts.failed(3) == FIRST_PAUSE
