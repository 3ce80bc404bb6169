import gzip
import hashlib
import http.server
import io
import os
import socket
import tarfile
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from minicomp import data
from minicomp.data import catalog, fetch
from minicomp.errors import DataError

# A server on this machine's loopback stands for the mirrors; nothing leaves the machine.


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        reply = self.server.replies.get(self.path, (404, b"no", None))
        status, body, length = reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as s:
        s.replies, s.asked = {}, []
        s.url = f"http://127.0.0.1:{s.server_address[1]}"
        threading.Thread(target=s.serve_forever, args=(0.01,), daemon=True).start()
        yield s
        s.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("MINICOMP_DATA", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "minicomp" / "data"


def as_file(name, raw):
    return catalog.DataFile(name, len(raw), hashlib.sha256(raw).hexdigest())


@pytest.fixture
def mnist(server, cache, monkeypatch):
    # Small files under MNIST's names, and two mirrors /a/ and /b/ on the local server.
    names = [f.name for f in catalog.COLLECTIONS["mnist"].files]
    raws = [gzip.compress(bytes([i]) * 3000 + os.urandom(400), mtime=0) for i in range(4)]
    c = replace(
        catalog.COLLECTIONS["mnist"],
        files=tuple(map(as_file, names, raws)),
        mirrors=(f"{server.url}/a/", f"{server.url}/b"),
    )
    monkeypatch.setitem(catalog.COLLECTIONS, "mnist", c)
    return dict(zip(names, raws))


def serve(server, folder, raws):
    server.replies |= {f"/{folder}/{name}": (200, raw, None) for name, raw in raws.items()}


def holds(cache, raws):
    return {p.name: p.read_bytes() for p in (cache / "mnist").iterdir()} == raws


def test_get_from_the_first_mirror_with_progress(server, cache, mnist):
    serve(server, "a", mnist)
    rows = []
    assert data.get("mnist", progress=rows.append) == cache / "mnist"
    assert holds(cache, mnist) and all(p.startswith("/a/") for p in server.asked)
    last = {r["name"]: r for r in rows}
    assert set(last) == {f"mnist/{n}" for n in mnist}
    assert all(r["event"] == "progress" and r["done"] == r["total"] for r in last.values())


def test_what_is_right_is_kept_and_what_is_wrong_is_replaced(server, cache, mnist):
    serve(server, "a", mnist)
    data.get("mnist")
    first, *_ = mnist
    (cache / "mnist" / first).write_bytes(mnist[first][:-5])
    server.asked.clear()
    data.get("mnist")
    assert server.asked == [f"/a/{first}"] and holds(cache, mnist)
    server.asked.clear()
    data.get("mnist")
    assert server.asked == []


@pytest.mark.parametrize(
    "reply",
    [
        (404, b"not here", None),
        (200, b"<html>login</html>", None),
        (200, b"", None),
        (503, b"", None),
    ],
)
def test_a_bad_mirror_is_passed_over(server, cache, mnist, reply):
    serve(server, "b", mnist)
    server.replies |= {f"/a/{name}": reply for name in mnist}
    data.get("mnist")
    assert holds(cache, mnist)


def test_a_broken_off_download_leaves_nothing(server, cache, mnist):
    for folder in "ab":
        server.replies |= {f"/{folder}/{n}": (200, raw[:200], len(raw)) for n, raw in mnist.items()}
    with pytest.raises(
        DataError,
        match="mnist: no mirror has the right bytes for train-images-idx3-ubyte.gz "
        r"\(127.0.0.1:\d+: truncated: expected [\d,]+ bytes, found 200; 127",
    ):
        data.get("mnist")
    assert not (cache / "mnist").exists() or not list((cache / "mnist").iterdir())


def test_wrong_bytes_everywhere_is_an_error_of_one_line_with_each_reason(server, cache, mnist):
    first, raw = next(iter(mnist.items()))
    server.replies[f"/a/{first}"] = (200, raw[:-1] + bytes([raw[-1] ^ 1]), None)
    server.replies[f"/b/{first}"] = (403, b"", None)
    with pytest.raises(DataError) as e:
        data.get("mnist")
    message = str(e.value)
    assert "wrong checksum: expected sha256" in message and "answered 403 Forbidden" in message
    assert "minicomp data get mnist --from DIR" in message and "\n" not in message


def test_a_body_too_long_is_not_read_to_its_end(server, cache, mnist):
    first, raw = next(iter(mnist.items()))
    server.replies[f"/a/{first}"] = (200, raw + bytes(5_000_000), None)
    with pytest.raises(DataError, match=f"in {len(raw) + 1:,} bytes instead of {len(raw):,}"):
        data.get("mnist")


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_no_network(cache, mnist):
    url = f"http://127.0.0.1:{closed_port()}/"
    with pytest.raises(DataError, match=r"mnist: no network for train-images.*refused.*--from DIR"):
        data.get("mnist", url)
    assert not list(cache.rglob("*.gz"))


def test_a_silent_server_times_out(cache, mnist, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(DataError, match="no network .*timed out"):
            data.get("mnist", f"http://127.0.0.1:{s.getsockname()[1]}/")


def test_nonsense_from_a_server_and_in_an_address(cache, mnist):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()

        def answer():
            connection, _ = s.accept()
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-whatever\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(DataError, match="no valid answer"):
            data.get("mnist", f"http://127.0.0.1:{s.getsockname()[1]}/")
    with pytest.raises(DataError, match="mnist: no "):
        data.get("mnist", "http://127.0.0.1:notaport/")


def test_from_an_address(server, cache, mnist):
    serve(server, "mine", mnist)
    data.get("mnist", f"{server.url}/mine")
    assert holds(cache, mnist)


@pytest.mark.parametrize("layout", ["", "mnist", "MNIST/raw"])
def test_from_a_folder(cache, mnist, tmp_path, layout):
    source = tmp_path / "source" / layout
    source.mkdir(parents=True)
    for name, raw in mnist.items():
        (source / name).write_bytes(raw)
    rows = []
    data.get("mnist", tmp_path / "source", progress=rows.append)
    assert holds(cache, mnist) and len(rows) == 4


def test_from_a_folder_errors(cache, mnist, tmp_path):
    with pytest.raises(DataError, match="expected a folder or an http address, found no folder"):
        data.get("mnist", tmp_path / "nowhere")
    with pytest.raises(DataError, match="mnist: no file train-images-idx3-ubyte.gz in "):
        data.get("mnist", tmp_path)
    for name, raw in mnist.items():
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz: truncated"):
        data.get("mnist", tmp_path)
    assert not (cache / "mnist" / "t10k-labels-idx1-ubyte.gz").exists()


def test_interrupted_write_leaves_no_temporary_file(server, cache, mnist, monkeypatch):
    serve(server, "a", mnist)
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        data.get("mnist")
    assert list((cache / "mnist").iterdir()) == []


def test_stale_temporary_files_are_swept(server, cache, mnist):
    serve(server, "a", mnist)
    (cache / "mnist").mkdir(parents=True)
    old, recent = cache / "mnist" / ".x.1.tmp", cache / "mnist" / ".x.2.tmp"
    for path in (old, recent):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    data.get("mnist")
    assert not old.exists() and recent.exists()


def test_glyphs_are_not_fetched(cache):
    with pytest.raises(DataError, match="nothing to get"):
        data.get("glyphs")


# -------------------------------------------------------------------------------------------
# CIFAR-10's archive


@pytest.fixture
def cifar(server, cache, monkeypatch):
    c = catalog.COLLECTIONS["cifar10"]
    rng = np.random.default_rng(0)
    inside = {
        f.name: (rng.integers(0, 256, (3, 3073)) % [[10] + [256] * 3072]).astype(np.uint8).tobytes()
        for f in c.files
    }
    archive = tar_gz(
        {f"cifar-10-batches-bin/{n}": raw for n, raw in inside.items()} | {"../escape.txt": b"x"}
    )
    c = replace(
        c,
        files=tuple(as_file(n, raw) for n, raw in inside.items()),
        mirrors=(server.url,),
        archive=as_file(c.archive.name, archive),
    )
    monkeypatch.setitem(catalog.COLLECTIONS, "cifar10", c)
    return inside, archive


def tar_gz(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return out.getvalue()


def test_archive_is_unpacked_by_name_only(server, cache, cifar):
    inside, archive = cifar
    server.replies["/cifar-10-binary.tar.gz"] = (200, archive, None)
    folder = data.get("cifar10")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == inside
    assert len(data.load("cifar10").train) == 14
    assert not list(cache.rglob("escape.txt"))


def test_archive_from_a_folder_with_a_wrong_file_inside(cache, cifar, tmp_path):
    inside, _ = cifar
    bad = inside | {"data_batch_3.bin": bytes(9219)}
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(tar_gz(bad))
    with pytest.raises(DataError, match="data_batch_3.bin inside: wrong checksum"):
        data.get("cifar10", tmp_path)
    assert not (cache / "cifar10" / "data_batch_3.bin").exists()


@pytest.mark.parametrize(
    "raw, match",
    [
        (b"\x1f\x8bjunk", "not a sound .tar.gz"),
        (b"", "not a sound .tar.gz"),
        (tar_gz({"a.txt": b"a"}), "expected data_batch_1.bin.* inside, found none"),
    ],
    ids=["junk", "empty", "other"],
)
def test_unsound_archives(cache, cifar, tmp_path, raw, match):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(raw)
    with pytest.raises(DataError, match=match):
        data.get("cifar10", tmp_path)


def test_truncated_archive(cache, cifar, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(cifar[1][:20000])
    with pytest.raises(DataError, match="not a sound .tar.gz|expected data_batch"):
        data.get("cifar10", tmp_path)


def test_some_batches_from_a_folder(cache, cifar, tmp_path):
    inside, _ = cifar
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(inside[name])
    folder = data.get("cifar10", tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == ["data_batch_1.bin", "test_batch.bin"]
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DataError, match="cifar10: no file"):
        data.get("cifar10", tmp_path / "..")


def test_published_tables_are_well_formed():
    for name, c in catalog.COLLECTIONS.items():
        assert len(c.mirrors) >= 2, name
        for f in c.files + ((c.archive,) if c.archive else ()):
            assert len(f.sha256) == 64 and int(f.sha256, 16) and f.size > 0
        assert all(m.startswith(("https://", "http://")) for m in c.mirrors)
