"""Clocks, chance and ids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from callsheet.actors.seams import RandomIds, Seams, SharedIds, SystemClock, crockford


def test_ids_sort_in_the_order_they_were_made() -> None:
    """Run ids sort by time, also within a millisecond."""
    ids = RandomIds()

    made = [ids.run_id(at_us) for at_us in range(1_700_000_000_000_000, 1_700_000_000_100_000, 100)]

    assert sorted(made) == made
    assert len(set(made)) == len(made)
    assert {26} == {len(each) for each in made}


@given(st.lists(st.integers(0, 2**47 * 1000), min_size=1, max_size=50))
def test_ids_sort_whatever_the_clock_does(times_us: list[int]) -> None:
    """A clock that stands still, or is set back, makes no id that sorts before an earlier one."""
    ids = RandomIds()

    made = [ids.run_id(at_us) for at_us in times_us]

    assert sorted(set(made)) == made


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_the_text_of_an_id_sorts_like_its_number(one: int, two: int) -> None:
    """The alphabet keeps the order, and holds no letter that is mistaken for a digit."""
    assert (one < two) == (crockford(one) < crockford(two))
    assert not set(crockford(one)) & set("ILOU")


def test_an_id_tells_its_time() -> None:
    """The first ten characters are the milliseconds, as in any ULID."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    ms = 0
    for letter in RandomIds().run_id(1_700_000_000_123_456)[:10]:
        ms = ms * 32 + alphabet.index(letter)

    assert 1_700_000_000_123 == ms


def test_secrets_differ() -> None:
    """Claims, boots and tokens are random and as long as they must be."""
    ids = RandomIds()

    claims = {ids.claim_id() for _ in range(1_000)}

    assert 1_000 == len(claims)
    assert {16} == {len(each) for each in claims}
    assert 1_000 == len({ids.boot_id() for _ in range(1_000)})
    assert {64} == {len(ids.token()) for _ in range(100)}


async def test_a_seed_repeats_ids_and_chance() -> None:
    """Two seams from one seed make the same ids and draws; from another seed, others."""
    one, two, other = Seams.seeded(7), Seams.seeded(7), Seams.seeded(8)

    def sample(seams: Seams) -> list[object]:
        return [seams.ids.run_id(1), seams.ids.claim_id(), seams.ids.boot_id(), seams.draw()]

    first = sample(one)
    assert first == sample(two)
    assert first != sample(other)
    assert not one.threads


async def test_p7_the_steady_clock_is_not_behind_the_wall_clock(mock_clock: trio.testing.MockClock) -> None:
    """Whatever passes while both are read: no run that is due on the wall clock starts before, on the steady one."""

    def slow() -> int:
        read_ns = int(trio.current_time() * 1e9)
        mock_clock.jump(1)
        return read_ns

    seams = Seams.seeded(1, wall_ns=slow)

    assert int(trio.current_time() * 1e6) <= seams.clock.steady_us()
    now = seams.now()
    assert now.wall_us <= now.steady_us - 1_000_000


async def test_the_steady_clock_follows_trio_and_the_wall_clock_its_owner(autojump_clock: trio.abc.Clock) -> None:
    """Both start together; setting the wall clock moves only that one."""
    wall_ns = 1_000_000_000_000_000_000
    clock = SystemClock(lambda: wall_ns)
    assert clock.steady_us() == clock.wall_us() == wall_ns // 1000

    await trio.sleep(10)
    wall_ns -= 3_600_000_000_000

    assert 1_000_000_010_000_000 == clock.steady_us()
    assert 999_996_400_000_000 == clock.wall_us()


def test_an_id_is_the_whole_number_also_where_its_kept_part_changes() -> None:
    """Counting up passes from one run of 2 to the 20 into the next; another millisecond has another beginning."""
    bits = (1 << 79) - (1 << 20) - 2
    ids = RandomIds(lambda _: bits)

    made = [ids.run_id(at_us) for at_us in (5_000, 5_000, 5_000, 5_000, 9_000, 5_000)]

    first, later = 5 << 80 | bits, 9 << 80 | bits
    assert [crockford(number) for number in (first, first + 1, first + 2, first + 3, later, later + 1)] == made


def test_ids_for_threads_are_made_one_at_a_time() -> None:
    """No two threads are given one id, whatever they are in the middle of."""
    inside: list[int] = []
    met: list[int] = []
    other = Lock()
    other.acquire()

    def bits(n: int) -> int:
        inside.append(n)
        other.acquire(timeout=0.0001)  # lets any other thread come by
        met.append(len(inside))
        inside.pop()
        return len(met)

    ids = SharedIds(bits)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: ids.run_id(n * 1_000), range(400)))

    assert 400 == len(set(made))
    assert {1} == {*met}
