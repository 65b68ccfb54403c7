"""Event recordings in compact form, and their frames.

Frames bin time evenly. What binning may lose is declared, never hidden: a bin's count saturates at `cap` (1: a
bin either holds a spike or not, which is what an address-event input can carry), and events outside a window
that the user set are left out. `EventStore.lost` counts both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnkd_deploy.errors import DataError, UsageError

# A frame tensor beyond this is a slip (T in microseconds, say), not a batch.
MAX_FRAME_ELEMENTS = 1 << 33
# Times are int32 microseconds: 35 minutes, far beyond any sample.
MAX_TIME_US = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class EventStore:
    """N recordings over shared event arrays, so that a selection of recordings copies no event.

    `x`, `y` (uint8, or int16 beyond 256 pixels), `p` (uint8) and `t_us` (int32, microseconds since the recording
    began) are (E,). Recording i is the `count[i]` events from `start[i]` on, both int64 (N,). `shape` is
    (P, H, W). `window_us` is the time that T frames divide evenly; None gives every recording its own, from its
    first to its last event. `cap` (1..255) is where a bin saturates.
    """

    x: Tensor
    y: Tensor
    p: Tensor
    t_us: Tensor
    start: Tensor
    count: Tensor
    shape: tuple[int, int, int]
    window_us: int | None = None
    cap: int = 1

    def __len__(self) -> int:
        return int(self.start.shape[0])

    def __getitem__(self, rows: Tensor) -> EventStore:
        """The recordings at `rows` (int64), in that order."""
        return replace(self, start=self.start[rows], count=self.count[rows])

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that say what was recorded, by name (for hashing)."""
        names = ("x", "y", "p", "t_us", "start", "count")
        return {name: getattr(self, name) for name in names}

    def frames(self, indices: Tensor, T: int) -> Tensor:
        """Recordings at `indices` (B,) as uint8 (T, B, P, H, W): events per bin, at most `cap`."""
        cell, size = self._cells(indices, T)
        total = size[0] * size[1] * size[2] * size[3] * size[4]
        if self.cap == 1:  # no counting needed: one byte a bin instead of four
            out = torch.zeros(total, dtype=torch.uint8)
            out[cell] = 1
            return out.view(size)
        counts = torch.zeros(total, dtype=torch.int32)
        counts.index_add_(0, cell, torch.ones_like(cell, dtype=torch.int32))
        return counts.clamp_(max=self.cap).to(torch.uint8).view(size)

    def lost(self, indices: Tensor, T: int) -> tuple[int, int]:
        """Events that `frames` leaves out: (outside the window, beyond `cap` in a bin)."""
        rows = self._rows(indices)
        cell, _ = self._cells(rows, T)
        _, counts = torch.unique(cell, return_counts=True)
        outside = int(self.count[rows].sum()) - int(cell.numel())
        return outside, int((counts - self.cap).clamp_(min=0).sum())

    def _rows(self, indices: Tensor) -> Tensor:
        rows = torch.as_tensor(indices, dtype=torch.int64).reshape(-1)
        if rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            have = f"{int(rows.min())}..{int(rows.max())}"
            raise UsageError("recording number out of range", need=f"0..{len(self) - 1}", have=have)
        return rows

    def _cells(self, indices: Tensor, T: int) -> tuple[Tensor, tuple[int, int, int, int, int]]:
        """The flat bin of every event that falls in the window, and the size of the frames."""
        rows = self._rows(indices)
        P, H, W = self.shape
        B = int(rows.numel())
        if T < 1 or T * B * P * H * W > MAX_FRAME_ELEMENTS:
            raise UsageError("not a sensible number of steps", have=f"T={T} for {B} samples of {self.shape}")
        count = self.count[rows]
        owner = torch.repeat_interleave(torch.arange(B), count)
        first = torch.cumsum(count, 0) - count
        events = torch.arange(int(count.sum())) - first[owner] + self.start[rows][owner]
        t = self.t_us[events].long()
        if self.window_us is None:
            low = torch.full((B,), MAX_TIME_US).scatter_reduce_(0, owner, t, "amin")
            high = torch.zeros(B, dtype=torch.int64).scatter_reduce_(0, owner, t, "amax")
            t = t - low[owner]
            window = (high - low + 1)[owner]
        else:
            inside = t < self.window_us
            events, owner, t = events[inside], owner[inside], t[inside]
            window = torch.full_like(t, self.window_us)
        step = torch.div(t * T, window, rounding_mode="floor")
        x, y, p = self.x[events].long(), self.y[events].long(), self.p[events].long()
        return (((step * B + owner) * P + p) * H + y) * W + x, (T, B, P, H, W)


def make_store(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t_us: Tensor,
    count: Tensor,
    *,
    shape: tuple[int, int, int],
    where: str,
    downsample: int = 1,
    cap: int = 1,
) -> EventStore:
    """Check integer event arrays (E,) and store them; `count` (N,) says how many events each recording has.

    `downsample` k merges k x k pixels into one. `DataError` for arrays that do not belong together or values
    outside `shape` (P, H, W).
    """
    P, H, W = shape
    lengths = {"x": x.numel(), "y": y.numel(), "p": p.numel(), "t": t_us.numel(), "sum of counts": int(count.sum())}
    if len(set(lengths.values())) != 1 or bool((count < 0).any()):
        have = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError("event arrays do not belong together", where=where, need="equal lengths", have=have)
    for name, values, limit in (("x", x, W), ("y", y, H), ("p", p, P), ("t", t_us, MAX_TIME_US)):
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= limit):
            have = f"{int(values.min())}..{int(values.max())}"
            raise DataError(f"{name} out of range", where=where, need=f"0..{limit - 1}", have=have)
    k = downsample
    small = torch.uint8 if max(H, W) <= 256 else torch.int16
    count = count.to(torch.int64)
    return EventStore(
        x=torch.div(x, k, rounding_mode="floor").to(small),
        y=torch.div(y, k, rounding_mode="floor").to(small),
        p=p.to(torch.uint8),
        t_us=t_us.to(torch.int32),
        start=torch.cumsum(count, 0) - count,
        count=count,
        shape=(P, -(-H // k), -(-W // k)),
        cap=cap,
    )
