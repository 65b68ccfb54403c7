import gzip
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from snnkd_deploy.data import download, load_dataset, mnist
from snnkd_deploy.data.download import Remote, fetch
from snnkd_deploy.errors import DataError

BODY = bytes(torch.randint(0, 256, (700_000,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).tolist())
MD5 = hashlib.md5(BODY).hexdigest()


class Server:
    """A local HTTP server that can cut connections, ignore ranges, or serve something wrong."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/file.bin": BODY}
        self.cut_after: list[int] = []  # for each of the next requests: bytes sent before the line goes dead
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.requests.append((self.path, wanted))
                body = server.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                start = 0
                if wanted and server.ranges:
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    if start >= len(body):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                stop = start + server.cut_after.pop(0) if server.cut_after else len(body)
                self.wfile.write(body[start:stop])
                if stop < len(body):
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def remote(server: Server, *paths: str, md5: str = MD5) -> Remote:
    return Remote("sub/file.bin", tuple(server.url + path for path in paths or ("/file.bin",)), md5)


def test_fetches_checks_and_reports_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    path = fetch(remote(server), tmp_path, lambda *args: seen.append(args))
    assert path == tmp_path / "sub" / "file.bin"
    assert path.read_bytes() == BODY
    assert seen[-1] == ("file.bin", len(BODY), len(BODY))
    assert [s[1] for s in seen] == sorted(s[1] for s in seen)
    assert not path.with_name("file.bin.part").exists()


def test_an_existing_file_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.bin").write_bytes(b"mine")
    assert fetch(remote(server), tmp_path).read_bytes() == b"mine"
    assert server.requests == []


def test_a_cut_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 100_000]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, "bytes=300000-", "bytes=400000-"]


def test_an_interrupted_run_resumes_from_the_part_file(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1000] * download.ATTEMPTS
    with pytest.raises(DataError, match="connection closed"):
        fetch(remote(server), tmp_path)
    assert (tmp_path / "sub" / "file.bin.part").read_bytes() == BODY[: 1000 * download.ATTEMPTS]
    assert not (tmp_path / "sub" / "file.bin").exists()
    server.requests.clear()
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert server.requests == [("/file.bin", f"bytes={1000 * download.ATTEMPTS}-")]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, [5000]
    seen: list[tuple[str, int, int | None]] = []
    assert fetch(remote(server), tmp_path, lambda *args: seen.append(args)).read_bytes() == BODY
    assert seen[-1] == ("file.bin", len(BODY), len(BODY))


def test_a_part_file_of_something_else_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    part = tmp_path / "sub" / "file.bin.part"
    for wrong in (b"x" * 5000, b"x" * len(BODY), b"x" * (len(BODY) + 1)):
        (tmp_path / "sub" / "file.bin").unlink(missing_ok=True)
        part.write_bytes(wrong)
        assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_a_complete_part_file_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.bin.part").write_bytes(BODY)
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_a_wrong_file_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(remote(server, md5="0" * 32), tmp_path)
    assert "wrong md5" in str(caught.value) and MD5 in str(caught.value)
    assert list((tmp_path / "sub").glob("file*")) == []
    assert len(server.requests) == 1  # the same wrong file need not be fetched again


def test_the_next_mirror_is_tried(server: Server, tmp_path: Path) -> None:
    server.files["/wrong.bin"] = b"something else"
    assert fetch(remote(server, "/gone", "/wrong.bin", "/file.bin"), tmp_path).read_bytes() == BODY
    assert [path for path, _ in server.requests] == ["/gone", "/wrong.bin", "/file.bin"]


def test_all_mirrors_failing_lists_each_answer(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(remote(server, "/gone", "/also-gone"), tmp_path)
    text = str(caught.value)
    assert "404" in text and "/gone" in text and "/also-gone" in text and "by hand" in text


def test_nobody_listening(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="URLError"):
        fetch(Remote("f", ("http://127.0.0.1:9/f",), MD5), tmp_path)


def test_file_urls_work(tmp_path: Path) -> None:
    (tmp_path / "origin").write_bytes(BODY)
    path = fetch(Remote("copy", ((tmp_path / "origin").as_uri(),), MD5), tmp_path / "to")
    assert path.read_bytes() == BODY


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot store"):
        fetch(Remote("blocked/f", ("http://127.0.0.1:9/f",), MD5), tmp_path)


def test_processes_that_ask_at_once_fetch_once(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(remote(server), tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {BODY}
    assert len(server.requests) == 1


def _idx(array: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(header + array.numpy().tobytes(), mtime=0)


def test_load_dataset_downloads_into_the_cache_and_then_needs_no_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randint(0, 256, (30, 28, 28), dtype=torch.uint8)
    labels = (torch.arange(30) % 10).to(torch.uint8)
    bodies = [_idx(images), _idx(labels), _idx(images[:10]), _idx(labels[:10])]
    server.files = {f"/{name}.gz": body for name, body in zip(mnist._FILES, bodies, strict=True)}
    monkeypatch.setitem(mnist._MIRRORS, "mnist", (server.url + "/",))
    monkeypatch.setitem(mnist._MD5, "mnist", tuple(hashlib.md5(body).hexdigest() for body in bodies))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="download=True"):
        load_dataset("mnist", download=False)
    first = load_dataset("mnist", validation=0)
    assert torch.equal(first.train.x[:, 0], images)
    assert first.source == str(tmp_path / "snnkd_deploy" / "MNIST" / "raw")
    assert len(server.requests) == 4
    assert load_dataset("mnist", download=False).sha256 == first.sha256
    own = tmp_path / "own"
    own.mkdir()
    assert str(own) in load_dataset("mnist", root=own).source
    assert len(server.requests) == 8
