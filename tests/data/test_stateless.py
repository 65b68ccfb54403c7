import torch

from snnkd_deploy.data.batches import batch_generator, epoch_order
from snnkd_deploy.data.stateless import hash64, hash_u32, mix64, permutation, to_signed64

MASK = (1 << 64) - 1


def splitmix64(z: int) -> int:
    """The published algorithm in Python's unbounded integers."""
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_mix64_gives_the_published_first_output_of_seed_0() -> None:
    assert int(mix64(torch.tensor(0))) & MASK == 0xE220A8397B1DCDAF


def test_mix64_equals_unbounded_integers_on_many_words() -> None:
    words = [splitmix64(i) for i in range(500)] + [0, 1, MASK, 1 << 63, (1 << 63) - 1]
    got = mix64(torch.tensor([to_signed64(w) for w in words]))
    assert [int(g) & MASK for g in got] == [splitmix64(w) for w in words]


def test_hash_depends_on_the_order_of_counters_and_broadcasts() -> None:
    assert int(hash64(0, 1, 2)) != int(hash64(0, 2, 1))
    grid = hash64(3, torch.arange(2).view(2, 1), torch.arange(5))
    assert grid.shape == (2, 5)
    assert grid.unique().numel() == 10
    assert int(grid[1, 4]) == int(hash64(3, 1, 4))


def test_hash_u32_is_uniform_enough() -> None:
    u = hash_u32(7, torch.arange(200_000)).double() / 2**32
    assert float(u.min()) >= 0 and float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 0.005
    assert abs(float(u.var()) - 1 / 12) < 0.002


def test_permutation_is_one_and_seeds_differ() -> None:
    p = permutation(1000, 5)
    assert torch.equal(p.sort().values, torch.arange(1000))
    assert not torch.equal(p, permutation(1000, 6))
    assert not torch.equal(p, torch.arange(1000))


def test_epoch_order_is_the_same_in_every_version() -> None:
    # Pinned: a run saved by an older version must resume in the same order.
    assert epoch_order(8, 0, 0).tolist() == [5, 4, 3, 7, 2, 0, 1, 6]
    assert torch.equal(epoch_order(8, 0, 0), epoch_order(8, 0, 0))


def test_epoch_order_changes_with_epoch_and_seed_but_not_with_what_was_asked_before() -> None:
    later = epoch_order(100, 1, 7)
    for epoch in range(7):
        assert not torch.equal(epoch_order(100, 1, epoch), later)
    assert torch.equal(epoch_order(100, 1, 7), later)
    assert not torch.equal(epoch_order(100, 2, 7), later)
    assert epoch_order(0, 1, 0).shape == (0,)


def test_batch_generators_repeat_and_differ() -> None:
    def draw(*key: int) -> list[int]:
        return torch.randint(0, 1 << 30, (4,), generator=batch_generator(*key)).tolist()

    keys = [(s, e, b) for s in range(3) for e in range(3) for b in range(3)]
    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)
