"""Reads golden.npz as what it may be: a file from anywhere. Needs no torch.

The bytes that were hashed are those that are parsed. What the manifest says bounds every size before memory
is taken; headers are matched, not evaluated; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.features import feature_of

Arrays = dict[str, np.ndarray]
MAX_CASES = 256
PREVIOUS, DELAY, CONTINUED = "continued.previous", "continued.delay", "continued"
CANDIDATES = 4  # plans that are scored in each case
CODE_KEYSTEPS, CODE_CHARACTERS = 3, 1024  # of a memory and of a text, for planners that write code
FILL = -1  # behind tokens
MAX_BYTES = 2**31  # of all arrays
_SLACK = 2**16  # of the zip's directory and the arrays' headers
_HEADER = re.compile(
    rb"\{'descr': '([^']{2,16})', 'fortran_order': (True|False), 'shape': \(((?:[0-9]{1,19},? ?)*)\), \} *\n"
)
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class _Expected:
    """An array of the manifest: the number of cases comes before `shape`."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def case_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self._kind} {_shape_text(('N', *self.shape))}"

    @property
    def _kind(self) -> str:
        return (
            f"text of at most {self.dtype[2:]} characters"
            if self.dtype[1] == "U"
            else np.dtype(self.dtype).name
        )

    def holds(self, descr: str) -> bool:
        """Whether an array of `descr` can be one of these; texts may be shorter."""
        if self.dtype[1] != "U" or descr[:2] != "<U":
            return descr == self.dtype
        return descr[2:].isdecimal() and 0 < int(descr[2:]) <= int(self.dtype[2:])


def read_golden(folder: Path, manifest: dict[str, Any]) -> Arrays:
    """The arrays of a bundle's golden.npz, with the shapes, types and values that its manifest asks for.

    Args:
        manifest: one that the loader accepts.

    Raises:
        BundleError: "golden.NAME: expected X, got Y".
    """
    known = _expected(manifest)
    raw = _read(folder, manifest["golden"], sum(array.case_bytes for array in known.values()))
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = _members(archive, known)
            for name in known:
                if name not in members:
                    raise keystep.BundleError(f"golden.{name}: expected an array in golden.npz, got none")
            arrays = {name: _array(archive, members[name], name, known[name]) for name in known}
    except keystep.BundleError:
        raise
    except _DAMAGE as error:
        raise keystep.BundleError(f"golden.file: expected an archive of arrays (.npz), got {error}") from None
    _check_cases(arrays)
    _check_values(arrays, manifest)
    return arrays


def _read(folder: Path, entry: dict[str, str], case_bytes: int) -> bytes:
    most = min(MAX_BYTES, MAX_CASES * case_bytes) + _SLACK
    try:
        with (folder / entry["file"]).open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise keystep.BundleError(f"golden.file: expected a file that can be read, got {error}") from None
    if len(raw) > most:
        raise keystep.BundleError(f"golden.file: expected at most {most} bytes, got more")
    if (found := hashlib.sha256(raw).hexdigest()) != entry["sha256"]:
        raise keystep.BundleError(f"golden.sha256: expected {entry['sha256']}, got {found}")
    return raw


def _expected(manifest: dict[str, Any]) -> dict[str, _Expected]:
    graphs, sampler, planner = manifest["graphs"], manifest["sampler"], manifest["planner"]
    if "decode" in graphs:
        return _of_code(manifest)
    chunk = (manifest["chunk"]["horizon"], len(manifest["action"]["names"]))
    found = {"actions": _Expected("<f4", chunk)}
    if sampler:
        found["noise"] = _Expected("<f4", (noise_rows(sampler), *chunk))
        found["model_output"] = _Expected("<f4", chunk)
    if most := manifest["chunk"].get("max_delay", 0):
        found[PREVIOUS], found[DELAY] = _Expected("<f4", (most, chunk[1])), _Expected("<i8", ())
        found[CONTINUED] = _Expected("<f4", chunk)
    for tensor in graphs["act" if "act" in graphs else "encode"]["inputs"]:
        found[tensor["role"]] = _input(tensor["role"], manifest)
    if planner:
        subgoal, _ = feature_of(manifest, planner["subgoal"])
        plan = (planner["subgoals"], *subgoal.network_shape(history=1)[1:])
        found["text"] = _Expected(f"<U{planner['text']['max_bytes']}", ())
        found["plan.noise"] = _Expected("<f4", (noise_rows(planner["sampler"]), *plan))
        found |= dict.fromkeys(("plan", "plan.model_output"), _Expected("<f4", plan))
        found[planner["subgoal"]] = _input(planner["subgoal"], manifest)
        if "scorer" in planner:
            noise = (noise_rows(planner["sampler"]), CANDIDATES, *plan)
            found["candidates.noise"] = _Expected("<f4", noise)
            found["candidates"] = _Expected("<f4", (CANDIDATES, *plan))
            found["scores"] = _Expected("<f4", (CANDIDATES,))
    return found


def _of_code(manifest: dict[str, Any]) -> dict[str, _Expected]:
    planner, text = manifest["planner"], f"<U{CODE_CHARACTERS}"
    found = {feature["key"]: _input(feature["key"], manifest) for feature in manifest["observation"]}
    return found | {
        "instruction": _Expected(text, ()),
        "memory": _Expected(text, (CODE_KEYSTEPS,)),
        "tokens": _Expected("<i8", (planner["context"],)),
        "logits": _Expected("<f4", (planner["vocabulary"],)),
        "reply": _Expected("<i8", (planner["reply_tokens"],)),
        "margin": _Expected("<f4", (planner["reply_tokens"],)),
    }


def noise_rows(sampler: dict[str, Any]) -> int:
    """K', of a manifest's sampler."""
    return keystep.Sampler(keystep.SamplerSpec(**sampler)).noise_rows


def _input(role: str, manifest: dict[str, Any]) -> _Expected:
    """An input of the controller as the world gives it; of a goal one frame."""
    if role == "task":
        return _Expected("<i8", ())
    feature, _ = feature_of(manifest, role)
    several = feature.history > 1 and role == feature.key
    frames = (feature.history,) if several else ()
    return _Expected(np.dtype(feature.dtype).str, (*frames, *feature.shape))


def _members(archive: zipfile.ZipFile, known: dict[str, _Expected]) -> dict[str, zipfile.ZipInfo]:
    """By the array's name; each once, none that nothing asks for, none larger than it can be."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name not in known or info.filename != f"{name}.npy":
            wanted = ", ".join(f"{array}.npy" for array in known)
            raise keystep.BundleError(f"golden.file: expected one of {wanted}, got {_quoted(info.filename)}")
        if name in found:
            raise keystep.BundleError(f"golden.{name}: expected one array, got two")
        if info.flag_bits & 1:
            raise keystep.BundleError(f"golden.{name}: expected no encryption, got some")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise keystep.BundleError(f"golden.{name}: expected stored or deflated, got {info.compress_type}")
        most = MAX_CASES * known[name].case_bytes + _SLACK
        if info.file_size > most:
            raise keystep.BundleError(f"golden.{name}: expected at most {most} bytes, got {info.file_size}")
        found[name] = info
    if (size := sum(info.file_size for info in found.values())) > MAX_BYTES + _SLACK:
        raise keystep.BundleError(f"golden.file: expected at most {MAX_BYTES} bytes of arrays, got {size}")
    return found


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, expected: _Expected) -> np.ndarray:
    with archive.open(info) as file:
        descr, fortran, shape = _header(file, name)
        if (
            not expected.holds(descr)
            or shape[1:] != expected.shape
            or not 1 <= (shape or (0,))[0] <= MAX_CASES
        ):
            wanted = f"{expected} with N in 1..{MAX_CASES}"
            raise keystep.BundleError(f"golden.{name}: expected {wanted}, got {descr} {_shape_text(shape)}")
        size = np.dtype(descr).itemsize * math.prod(shape)
        content = file.read(size + 1)  # to the end, where the archive checks its sum
    if len(content) != size:
        got = "more" if len(content) > size else str(len(content))
        raise keystep.BundleError(f"golden.{name}: expected {size} bytes, got {got}")
    values = np.frombuffer(content, descr)
    return values.reshape(shape[::-1]).T.copy() if fortran else values.reshape(shape).copy()


def _header(file: Any, name: str) -> tuple[str, bool, tuple[int, ...]]:
    """Type, order and shape; see numpy.lib.format."""
    magic = file.read(8)
    lengths = {b"\x93NUMPY\x01\x00": "<H", b"\x93NUMPY\x02\x00": "<I"}
    if magic not in lengths:
        raise keystep.BundleError(f"golden.{name}: expected an array (.npy), got {magic!r}")
    (length,) = struct.unpack(lengths[magic], file.read(struct.calcsize(lengths[magic])))
    text = file.read(min(length, _SLACK))
    if (match := _HEADER.fullmatch(text)) is None or len(text) != length:
        raise keystep.BundleError(
            f"golden.{name}: expected a plain array, got the header {_quoted(text[:80])}"
        )
    shape = tuple(int(extent) for extent in re.findall(rb"[0-9]+", match[3]))
    return match[1].decode("ascii", "replace"), match[2] == b"True", shape


def _check_cases(arrays: Arrays) -> None:
    first = "actions" if "actions" in arrays else "logits"
    cases = len(arrays[first])
    for name, values in arrays.items():
        if len(values) != cases:
            wanted = f"{cases} cases as of golden.{first}"
            raise keystep.BundleError(f"golden.{name}: expected {wanted}, got {len(values)}")


def _check_values(arrays: Arrays, manifest: dict[str, Any]) -> None:
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            case = int(np.argwhere(~np.isfinite(values))[0][0])
            raise keystep.BundleError(
                f"golden.{name}: expected finite numbers, got NaN or Inf in case {case}"
            )
    tasks = len(manifest["tasks"])
    for task in arrays.get("task", ()):
        if not 0 <= task < tasks:
            raise keystep.BundleError(f"golden.task: expected 0..{tasks - 1}, got {task}")
    for delay in arrays.get(DELAY, ()):
        if not 0 <= delay <= manifest["chunk"]["max_delay"]:
            wanted = f"0..{manifest['chunk']['max_delay']} (chunk.max_delay)"
            raise keystep.BundleError(f"golden.{DELAY}: expected {wanted}, got {delay}")
    if "text" in arrays:
        _check_texts(arrays["text"], manifest["planner"]["text"]["max_bytes"])
    for name in ("tokens", "reply"):
        most = manifest["planner"]["vocabulary"] if name in arrays else 0
        _check_tokens(name, arrays.get(name, np.zeros((0, 1), np.int64)), most)


def _check_tokens(name: str, values: np.ndarray, most: int) -> None:
    """Ids, one at least, and then FILL to the end."""
    for case, row in enumerate(values):
        count = int((row != FILL).sum())
        if not count or not ((row[:count] >= 0) & (row[:count] < most)).all():
            raise keystep.BundleError(
                f"golden.{name}: expected ids below {most}, {FILL} behind them, got others in case {case}"
            )


def _check_texts(texts: np.ndarray, most: int) -> None:
    for case, points in enumerate(texts.reshape(-1, 1).view(np.uint32)):
        written = points[: np.flatnonzero(points)[-1] + 1] if points.any() else points[:0]
        valid = ((written > 0) & (written <= 0x10FFFF) & ((written < 0xD800) | (written > 0xDFFF))).all()
        text = "".join(map(chr, written)) if valid else ""
        if not text.strip() or len(text.encode()) > most:
            wanted = f"words of at most {most} bytes of UTF-8"
            raise keystep.BundleError(f"golden.text: expected {wanted}, got {_quoted(text)} in case {case}")


def _shape_text(shape: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _quoted(text: str | bytes) -> str:
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:77] + ".."
