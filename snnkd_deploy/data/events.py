"""Event recordings in compact form, and their frames.

Frames bin time evenly. What the binning may lose is declared, not hidden: counts saturate at `cap` (1: a bin
either holds a spike or not, which is what an address-event input can carry), and events outside a window that
the user set are left out; `lost` counts both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnkd_deploy.errors import DataError, UsageError

# A frame tensor beyond this is a typing mistake (T in microseconds, say), not a batch.
MAX_FRAME_ELEMENTS = 1 << 33


@dataclass(frozen=True, eq=False)
class EventStore:
    """N recordings, one after another.

    `x`, `y` (int16), `p` (uint8), `t_us` (int64; microseconds since the recording's start) are (E,); recording i
    holds events ptr[i]:ptr[i+1], `ptr` int64 (N+1,). `shape` is (P, H, W). `window_us` is the time that T frames
    divide evenly; None gives every recording its own, from its first to its last event. `cap` is 1..255.
    """

    x: Tensor
    y: Tensor
    p: Tensor
    t_us: Tensor
    ptr: Tensor
    shape: tuple[int, int, int]
    window_us: int | None = None
    cap: int = 1

    def __len__(self) -> int:
        return int(self.ptr.shape[0]) - 1

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that say what was recorded, by name (for hashing)."""
        return {"x": self.x, "y": self.y, "p": self.p, "t_us": self.t_us, "ptr": self.ptr}

    def __getitem__(self, rows: Tensor) -> EventStore:
        """The recordings at `rows`, in that order, as a store of its own."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        events, _, ptr = self._gather(rows)
        return replace(
            self, x=self.x[events], y=self.y[events], p=self.p[events], t_us=self.t_us[events], ptr=ptr
        )

    def frames(self, indices: Tensor, T: int) -> Tensor:
        """Recordings at `indices` (B,) as uint8 (T, B, P, H, W), each bin the event count up to `cap`."""
        cell, shape = self._cells(indices, T)
        size = shape[0] * shape[1] * shape[2] * shape[3] * shape[4]
        if self.cap == 1:  # no counting needed: one byte a bin, not four
            out = torch.zeros(size, dtype=torch.uint8)
            out[cell] = 1
            return out.view(shape)
        counts = torch.zeros(size, dtype=torch.int32)
        counts.index_add_(0, cell, torch.ones_like(cell, dtype=torch.int32))
        return counts.clamp_(max=self.cap).to(torch.uint8).view(shape)

    def lost(self, indices: Tensor, T: int) -> tuple[int, int]:
        """Events that `frames` leaves out: (outside the window, beyond `cap` in a bin)."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        cell, _ = self._cells(rows, T)
        total = int((self.ptr[rows + 1] - self.ptr[rows]).sum())
        _, counts = torch.unique(cell, return_counts=True)
        return total - int(cell.numel()), int((counts - self.cap).clamp_(min=0).sum())

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(event positions (E',), which of `rows` each belongs to (E',), new ptr)."""
        if rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            raise UsageError(
                "recording number out of range",
                need=f"0..{len(self) - 1}",
                have=f"{int(rows.min())}..{int(rows.max())}",
            )
        start, length = self.ptr[rows], self.ptr[rows + 1] - self.ptr[rows]
        ptr = torch.zeros(rows.numel() + 1, dtype=torch.int64)
        torch.cumsum(length, 0, out=ptr[1:])
        owner = torch.repeat_interleave(torch.arange(rows.numel()), length)
        events = torch.arange(int(ptr[-1])) - ptr[owner] + start[owner]
        return events, owner, ptr

    def _cells(self, indices: Tensor, T: int) -> tuple[Tensor, tuple[int, int, int, int, int]]:
        """The flat bin of every event that falls in the window, and the frames' shape."""
        rows = torch.as_tensor(indices, dtype=torch.int64).reshape(-1)
        P, H, W = self.shape
        B = int(rows.numel())
        if T < 1 or T * max(B, 1) * P * H * W > MAX_FRAME_ELEMENTS:
            raise UsageError(
                "frames need a sensible number of steps", have=f"T={T} for {B} samples of {self.shape}"
            )
        events, owner, ptr = self._gather(rows)
        t = self.t_us[events]
        if self.window_us is None:
            first = torch.full((B,), torch.iinfo(torch.int64).max).scatter_reduce_(0, owner, t, "amin")
            last = torch.zeros(B, dtype=torch.int64).scatter_reduce_(0, owner, t, "amax")
            t = t - first[owner]
            window = (last - first + 1)[owner]
        else:
            inside = t < self.window_us
            events, owner, t = events[inside], owner[inside], t[inside]
            window = torch.full_like(t, self.window_us)
        # T bins of equal length; the product stays far below 2**63 for any recording in microseconds.
        step = (t * T).div_(window, rounding_mode="floor")
        x, y, p = self.x[events].long(), self.y[events].long(), self.p[events].long()
        cell = (((step * B + owner) * P + p) * H + y) * W + x
        return cell, (T, B, P, H, W)


def make_store(
    x: Tensor,
    y: Tensor,
    p: Tensor,
    t_us: Tensor,
    ptr: Tensor,
    *,
    shape: tuple[int, int, int],
    where: str,
    downsample: int = 1,
    cap: int = 1,
) -> EventStore:
    """Check event arrays and store them; `downsample` k merges k x k pixels. `DataError` names the first fault."""
    P, H, W = shape
    if not 1 <= cap <= 255:
        raise UsageError("option cap: counts are stored in a byte", need="1..255", have=cap)
    if downsample < 1:
        raise UsageError("option downsample must be at least 1", have=downsample)
    lengths = {name: int(a.shape[0]) for name, a in {"x": x, "y": y, "p": p, "t": t_us}.items()}
    if len(set(lengths.values())) != 1:
        raise DataError("event arrays differ in length", where=where, have=lengths)
    total = lengths["x"]
    if (
        ptr.ndim != 1
        or ptr.numel() < 1
        or int(ptr[0]) != 0
        or int(ptr[-1]) != total
        or bool((ptr.diff() < 0).any())
    ):
        raise DataError(
            "ptr must rise from 0 to the number of events",
            where=where,
            need=f"0 .. {total}",
            have=f"{ptr[:1].tolist()} .. {ptr[-1:].tolist()}",
        )
    for name, a, limit in (("x", x, W), ("y", y, H), ("p", p, P)):
        if total and (int(a.min()) < 0 or int(a.max()) >= limit):
            raise DataError(
                f"{name} out of range",
                where=where,
                need=f"0..{limit - 1}",
                have=f"{int(a.min())}..{int(a.max())}",
            )
    if total and int(t_us.min()) < 0:
        raise DataError("negative timestamps", where=where, have=int(t_us.min()))
    k = downsample
    return EventStore(
        x=(x // k).to(torch.int16),
        y=(y // k).to(torch.int16),
        p=p.to(torch.uint8),
        t_us=t_us.to(torch.int64),
        ptr=ptr.to(torch.int64),
        shape=(P, -(-H // k), -(-W // k)),
        cap=cap,
    )


def with_window(stores: list[EventStore], window: int | str | None) -> list[EventStore]:
    """Give all `stores` one time window: microseconds, "sample" (each recording its own), or None for the
    shortest window that holds every event of all of them, so that nothing is left out."""
    if window == "sample":
        return [replace(s, window_us=None) for s in stores]
    if window is None:
        window = max((int(s.t_us.max()) + 1 for s in stores if s.t_us.numel()), default=1)
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise UsageError('option window_us is a number of microseconds, or "sample"', have=repr(window))
    return [replace(s, window_us=window) for s in stores]
