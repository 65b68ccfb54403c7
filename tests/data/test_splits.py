import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.data.dataset import Split
from snnkd_deploy.data.splits import grouped, stratified


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(0, 100), st.integers(0, 3))
def test_stratified_partitions_with_the_exact_count_and_fair_shares(labels: list[int], share: int, seed: int) -> None:
    y = torch.tensor(labels)
    count = len(labels) * share // 101
    kept, aside = stratified(y, count, seed, 1)
    assert torch.equal(torch.cat([kept, aside]).sort().values, torch.arange(len(labels)))
    assert aside.numel() == count
    for label in set(labels):
        exact = labels.count(label) * count / len(labels)
        assert abs(int((y[aside] == label).sum()) - exact) < 1


def test_stratified_depends_on_seed_and_salt() -> None:
    y = torch.arange(200) % 4
    base = stratified(y, 50, 0, 1)[1]
    assert torch.equal(base, stratified(y, 50, 0, 1)[1])
    assert not torch.equal(base, stratified(y, 50, 1, 1)[1])
    assert not torch.equal(base, stratified(y, 50, 0, 2)[1])


def test_a_new_class_does_not_move_the_samples_of_the_others() -> None:
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    more = torch.cat([y, torch.tensor([2, 2, 2, 2])])
    assert stratified(y, 2, 0, 1)[1].tolist() == [i for i in stratified(more, 3, 0, 1)[1].tolist() if i < 8]


def test_groups_stay_whole() -> None:
    groups = torch.arange(100) % 10
    kept, aside = grouped(groups, 25, 0, 1)
    assert 25 <= aside.numel() <= 30
    assert not set(groups[kept].tolist()) & set(groups[aside].tolist())
    assert kept.numel() + aside.numel() == 100


@given(st.integers(0, 500), st.integers(0, 60))
def test_spread_takes_fair_shares_of_a_split_that_is_sorted_by_class(n: int, count: int) -> None:
    y = torch.arange(n) * 5 // max(n, 1)
    rows = Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), y, torch.arange(n)).spread(count)
    assert rows.dtype == torch.int64 and rows.numel() == min(n, count) == rows.unique().numel()
    for label in range(5):
        share = int((y == label).sum()) * rows.numel() / max(n, 1)
        assert abs(int((y[rows] == label).sum()) - share) <= 1
